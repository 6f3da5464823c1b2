"""The user's cache of this package."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(part: str) -> Path | None:
    """The folder of one part of the cache; None without a home. A relative XDG_CACHE_HOME is ignored, as its specification
    says."""
    roots = (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"))
    return next((Path(one) / "embedfleet" / part for one in roots if os.path.isabs(one)), None)
