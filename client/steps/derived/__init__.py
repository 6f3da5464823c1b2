"""Runs of queries and pairs inside a run directory."""
