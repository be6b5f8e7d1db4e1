"""Paired comparisons: differences, confidence intervals, corrections."""
