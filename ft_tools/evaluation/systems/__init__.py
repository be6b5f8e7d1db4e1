"""What is compared: the models, and whether their files are present."""
