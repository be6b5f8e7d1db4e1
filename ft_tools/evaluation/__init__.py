"""evaluate: metrics, statistics, report."""
