"""The device of a worker: its memory and its load."""
