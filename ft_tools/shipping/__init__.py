"""merge_and_quantize: from an adapter to a model that is served."""
