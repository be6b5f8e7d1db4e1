"""The process that generates answers and compares them."""
