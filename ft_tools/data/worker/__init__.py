"""The process that audits a large dataset: embeddings, token counts."""
