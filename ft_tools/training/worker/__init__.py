"""The processes that count tokens and train."""
