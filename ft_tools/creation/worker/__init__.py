"""The process that asks, checks and writes."""
