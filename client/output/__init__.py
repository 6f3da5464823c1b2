"""Formats what the client prints: numbers, lines and progress."""
