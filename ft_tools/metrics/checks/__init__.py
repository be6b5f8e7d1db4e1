"""Declared checks of an answer: what GRPO is rewarded for, creation keeps and evaluate measures."""
