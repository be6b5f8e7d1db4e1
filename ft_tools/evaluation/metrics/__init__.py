"""Scores of one output: metrics, schemas, the judge, the general suite."""
