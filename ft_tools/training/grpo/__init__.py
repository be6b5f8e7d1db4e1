"""Reinforcement learning on declared rewards: launch_grpo."""
