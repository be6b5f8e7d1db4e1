"""evaluate: compare a tuned model with its baseline, with the uncertainty that makes it a claim."""
