"""The search by meaning: the only code here that imports torch."""
