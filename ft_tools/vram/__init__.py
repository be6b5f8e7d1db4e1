"""estimate_vram: states, activations, sharding, fit search."""
