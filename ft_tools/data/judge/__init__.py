"""What is wrong with a dataset, and the verdict."""
