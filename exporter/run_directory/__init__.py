"""Owns a run directory during a run: lock, spec, checks and manifest."""
