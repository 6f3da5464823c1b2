"""Machine-readable output."""

from __future__ import annotations

import sys
from typing import Any


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, default=str) + b"\n")
