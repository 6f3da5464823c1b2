"""What every HELLO carries: peers of another protocol version are refused by name, not by a decoding error."""

PROTOCOL = 2
"""Raised when a message changes in a way that an older peer cannot read."""

__version__ = "0.1.0"
"""The build; the same as in pyproject.toml (a test holds it)."""
