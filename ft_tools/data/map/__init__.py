"""Rows to examples: the mapping that the caller names, and what applies it."""
