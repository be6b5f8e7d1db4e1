"""The process that merges, converts, quantizes and measures."""
