"""The references, in sections and searched."""
