"""Searches a finished run."""
