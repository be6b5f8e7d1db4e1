"""The demo's data: customer messages and their tickets, made by `make.py`, invented throughout."""
