"""Figures, events and spans of a run."""
