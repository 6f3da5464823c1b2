"""Machine-readable output."""

from __future__ import annotations

import sys
from typing import Any


def print_json(value: Any) -> None:
    """One line of JSON on standard output. An array of numpy is a list."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
