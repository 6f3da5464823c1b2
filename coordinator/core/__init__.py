"""Decides what runs where. Pure: events in, actions out; no I/O and no clock."""
