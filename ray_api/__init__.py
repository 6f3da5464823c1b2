"""`embedfleet.ray`: the interface for Ray Data. The folder is not called `ray`, since that would hide the library from every
Python that is started here."""

from __future__ import annotations

from ..client.encoding.encode import Encode

__all__ = ["Encode"]
