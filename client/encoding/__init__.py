"""Encodes batches of texts for other programs, by the workers that a run has."""
