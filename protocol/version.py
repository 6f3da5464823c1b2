"""The versions in every hello message. A peer of another protocol version gets a clear refusal, not a decoding error."""

PROTOCOL = 2
"""Raised when a message changes in a way that an older peer cannot read."""

__version__ = "0.1.0"
"""The build; the same as in pyproject.toml (a test holds it)."""
