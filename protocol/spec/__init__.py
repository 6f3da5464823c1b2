"""The specification of a run: its models, vectors and texts."""
