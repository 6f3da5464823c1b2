"""Field names in flags: `body`, `doc.body` for a field inside another, `doc."a.b"` for a name with a dot."""

from __future__ import annotations

import re

from ..reading.records import Raw
from .envelopes import PREFIXES, Opened

Place = tuple[Raw, str]
"""An object and a key of it."""

_QUOTED = re.compile(r'"([^"]*)"|([^."]+)')


class FieldPath:
    """A path to a field.

    Without quotes, a key with dots in it wins over a path of the same spelling.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._keys = _keys_of(name) if '"' in name else None

    def find(self, record: Raw) -> Place | None:
        """The object that holds the field, and its key there; None if there is no such field. The value may be null."""
        return _find(record, self.name) if self._keys is None else _follow(record, self._keys)

    def below(self, prefix: str) -> FieldPath | None:
        """The path without its first key, if that is `prefix`; else None."""
        start = f"{prefix}."
        return FieldPath(self.name[len(start) :]) if self.name.startswith(start) else None


def _keys_of(name: str) -> list[str] | None:
    """The keys of a path with quotes; None if it is malformed, and therefore a plain name."""
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


def _find(record: Raw, name: str) -> Place | None:
    if name in record:
        return record, name
    at = name.find(".")
    while at > 0:
        inner = record.get(name[:at])
        if isinstance(inner, dict) and (found := _find(inner, name[at + 1 :])) is not None:  # pyright: ignore[reportUnknownArgumentType] - an object of JSON
            return found
        at = name.find(".", at + 1)
    return None


def _follow(record: Raw, keys: list[str]) -> Place | None:
    for key in keys[:-1]:
        inner = record.get(key)
        if not isinstance(inner, dict):
            return None
        record = inner
    return (record, keys[-1]) if keys[-1] in record else None


class NamedField:
    """A field that a flag names, at the top level or by a path. Inside an envelope the path may omit the envelope's key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = FieldPath(name)
        self._inside = {prefix: self._path.below(prefix) for prefix in PREFIXES}

    def at_the_top(self, record: Raw) -> Place | None:
        """The top-level field of exactly this name."""
        return (record, self.name) if self.name in record else None

    def find(self, record: Raw, envelope: Opened | None) -> Place | None:
        """Find the field in the record, which is the inner one if there is an envelope."""
        place = self._path.find(record)
        if place is None and envelope is not None:
            inside = self._inside.get(envelope.prefix)
            place = (inside.find(record) if inside is not None else None) or self._path.find(envelope.outer)
        return place
