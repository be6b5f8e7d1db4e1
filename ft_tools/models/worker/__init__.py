"""The process that unpacks and checks a model."""
