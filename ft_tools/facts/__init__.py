"""Facts about the world, read from the TOML files beside this one; every row names its source."""
