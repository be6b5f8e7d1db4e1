"""Find texts that say the same: exactly, by their words, or by meaning."""
