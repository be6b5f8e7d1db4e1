"""prepare_dataset: from a table or file of rows to training files, by a declared mapping."""
