"""A finished run, read row by row."""
