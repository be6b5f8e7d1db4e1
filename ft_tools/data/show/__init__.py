"""What a file holds, for whoever decides what its columns mean."""
