"""Judges rankings against relevance judgments."""
