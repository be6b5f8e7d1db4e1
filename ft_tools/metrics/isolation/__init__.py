"""Run code that a model wrote: no network, files or environment, and limits on all the rest."""
