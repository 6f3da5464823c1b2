"""The `Embedder` for notebooks and other programs."""
