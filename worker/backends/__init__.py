"""Two ways to compute a forward pass: padded, by sentence-transformers, or packed (without padding), by this package."""
