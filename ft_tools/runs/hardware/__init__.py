"""What this machine computes on: GPUs, memory, and who waits for which device."""
