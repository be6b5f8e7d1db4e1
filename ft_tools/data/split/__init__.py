"""Parts to train, validate and test on, so that nothing is on two sides."""
