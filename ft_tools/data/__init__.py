"""audit_dataset: read, detect, normalise, check, deduplicate, split, report."""
