"""Counts tokens and sizes of a sample for `embedfleet plan`, without torch and without loading weights."""
