"""Checks a run directory against its records."""
