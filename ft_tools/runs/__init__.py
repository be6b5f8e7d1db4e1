"""A run is a directory; this package starts, observes, cancels and resumes it."""
