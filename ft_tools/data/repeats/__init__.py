"""Duplicates, near-duplicates, leaks into validation, and benchmark questions."""
