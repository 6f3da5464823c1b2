"""What a run is asked to make: its models, vectors and texts."""
