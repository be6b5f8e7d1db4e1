"""The processes of a run: start, supervisor, worker, and how they end."""
