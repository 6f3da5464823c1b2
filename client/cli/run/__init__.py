"""The commands that take the flags of a run."""
