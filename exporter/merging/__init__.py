"""Merges the shards of a directory into one run directory."""
