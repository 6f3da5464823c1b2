"""Verifies a run directory from its files."""
