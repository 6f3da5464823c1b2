"""Where in a TOML file a key is: tomllib does not say."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*([^=#]+?)\s*=")


def line_of(text: str, table: str, key: str) -> int | None:
    """The line, from 1, of a key in a table ("" above all tables), or else that of the table; None if neither is found."""
    here = ""
    found: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = _plain(header[1])
            if here == (table or key):
                found = found or number
        elif name := _KEY.match(line):
            parts = [_plain(part) for part in name[1].split(".")]
            if [here, *parts] == [table, key] or (not here and parts == [table, key]):
                return number
            if not here and parts[0] == (table or key):
                found = found or number
    return found


def _plain(name: str) -> str:
    return name.strip().strip("\"'")
