"""What runs inside a jail: the standard library, and nothing of ours."""
