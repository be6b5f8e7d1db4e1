"""What is published, made from the files at the root."""
