"""estimate_vram: states, activations, sharding, phases, and the search for what fits."""
