"""Names of fields as flags give them: `body`, `doc.body` for a field inside another, `doc."a.b"` for a name with a dot."""

from __future__ import annotations

import re

from ..reading.records import Raw

_QUOTED = re.compile(r'"([^"]*)"|([^."]+)')


class FieldPath:
    """A path to a field. `find` gives the object that holds the field, and its key there; None if the record has no such
    field.

    Without quotes, a key with dots in it wins over a path of the same spelling.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._keys = _keys_of(name) if '"' in name else None

    def find(self, record: Raw) -> tuple[Raw, str] | None:
        """The object that holds the field, and its key there. The value may be null."""
        return _find(record, self.name) if self._keys is None else _follow(record, self._keys)

    def below(self, prefix: str) -> FieldPath | None:
        """The path without its first key, if that is `prefix`; else None."""
        start = f"{prefix}."
        return FieldPath(self.name[len(start) :]) if self.name.startswith(start) else None


def _keys_of(name: str) -> list[str] | None:
    """The keys of a path with quotes; None if it is not well formed, and so a plain name."""
    keys: list[str] = []
    at = 0
    while (found := _QUOTED.match(name, at)) is not None:
        keys.append(found[1] if found[1] is not None else found[2])
        at = found.end()
        if at == len(name):
            return keys
        if name[at] != ".":
            return None
        at += 1
    return None


def _find(record: Raw, name: str) -> tuple[Raw, str] | None:
    if name in record:
        return record, name
    at = name.find(".")
    while at > 0:
        inner = record.get(name[:at])
        if isinstance(inner, dict) and (found := _find(inner, name[at + 1 :])) is not None:  # pyright: ignore[reportUnknownArgumentType] - an object of JSON
            return found
        at = name.find(".", at + 1)
    return None


def _follow(record: Raw, keys: list[str]) -> tuple[Raw, str] | None:
    for key in keys[:-1]:
        inner = record.get(key)
        if not isinstance(inner, dict):
            return None
        record = inner
    return (record, keys[-1]) if keys[-1] in record else None
