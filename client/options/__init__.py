"""Makes specs of flags and arguments."""
