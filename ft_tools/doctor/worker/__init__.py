"""The process that runs the self-test."""
