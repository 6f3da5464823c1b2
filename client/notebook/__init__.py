"""`Embedder`, for Python."""
