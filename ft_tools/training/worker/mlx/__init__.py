"""The MLX engine: a PEFT model whose forward and backward passes run in MLX.

Trainer, loss, optimizer, schedule, evaluation, checkpoints and resume are those of the torch
engine: the base weights are in MLX, the adapter is PEFT's own.
"""
