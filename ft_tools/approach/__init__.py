"""recommend_approach: whether to train at all, and how."""
