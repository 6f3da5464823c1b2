"""Encoders, one file per kind. `base.py` has their interface."""
