"""Write the flags of a run as TOML that `--config` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from .tables import TABLES


def config_text(values: Mapping[str, Any]) -> str:
    """TOML of values by flag, without dashes; None and empty lists are left out. Paths become absolute."""
    filled = {flag: value for flag, value in values.items() if value is not None and value not in ([], ())}
    tables: list[str] = []
    for name, table in TABLES.items():
        lines = [_line(table.key, filled.pop(name))] if name in filled else []
        if lines:
            lines += [_line(flag, filled.pop(flag)) for flag in table.flags if flag in filled]
            tables.append("\n".join((f"[{name}]", *lines, "")))
    top = "".join(f"{_line(flag, value)}\n" for flag, value in filled.items())
    return "\n".join((top, *tables) if top else tables)


def _line(key: str, value: Any) -> str:
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    match value:
        case Enum():
            return _toml(value.value)
        case Path():
            return _toml(str(value.expanduser().absolute()))
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_toml(one) for one in value)}]"
        case _:
            # A string of JSON is one of TOML, but for the character that JSON leaves as it is.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
