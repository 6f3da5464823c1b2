"""The flags of a run in a file."""
