"""What a model is, from its config.json alone, and where its files are."""
