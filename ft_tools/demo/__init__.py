"""The demo: the whole job on a small real model."""
