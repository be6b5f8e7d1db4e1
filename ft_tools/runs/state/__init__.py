"""What a run directory holds: its records, files, locks, log, and the state that follows."""
