"""A run is a directory; this package starts, observes, cancels and resumes it.

Linux and macOS only: it stands on flock, sessions and inherited descriptors. Windows users run it
in WSL. A run directory belongs on a local disk: a network file system without flock is refused.
"""
