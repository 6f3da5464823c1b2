"""Flags and arguments, checked and turned into specs."""
