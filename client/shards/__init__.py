"""Runs a source in shards: what they agree on, the figures that they share, one after another, and their merge."""
