"""The processes that do the heavy work, run as `python -m`: the only modules that import torch."""
