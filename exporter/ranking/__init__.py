"""Candidates and their final order."""
