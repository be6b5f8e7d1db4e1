"""create_dataset: training rows from a teacher, documents, traces or exact changes, with origin."""
