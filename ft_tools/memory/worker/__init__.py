"""The process that traces a training step."""
