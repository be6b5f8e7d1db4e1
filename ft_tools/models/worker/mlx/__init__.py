"""Models that compute in MLX: the base from mlx-lm, the adapter as PEFT has it."""
