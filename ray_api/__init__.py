"""`embedfleet.ray`: what a pipeline of Ray Data calls. This folder has another name: one called `ray` would hide the library
from every Python that is started here."""

from __future__ import annotations

from ..client.encoding.encode import Encode

__all__ = ["Encode"]
