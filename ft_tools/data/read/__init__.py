"""The two passes over a dataset: what is remembered of each row."""
