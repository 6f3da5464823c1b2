"""Counters that can be added up."""
