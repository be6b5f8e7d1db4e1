"""How an answer is scored, and what a set of scores shows."""
