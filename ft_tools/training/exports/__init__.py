"""The same plan for other trainers."""
