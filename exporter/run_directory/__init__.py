"""Owns a run directory while a run is at work: lock, spec, checks and manifest."""
