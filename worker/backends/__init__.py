"""How a model's forward pass is computed: padded by sentence-transformers, or packed by the modules here."""
