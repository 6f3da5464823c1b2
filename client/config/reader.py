"""Read the flags of a run from a file: TOML, or the spec.json of a run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...protocol.errors import UsageError
from ...protocol.run_directory.json_bytes import decode_json
from ...protocol.spec.run_spec import RunSpec
from ..arguments import expand_path
from ..options.embedder_options import checked
from ..options.spec_flags import spec_flags
from .known_flags import ONLY_TYPED, Flag, is_list
from .positions import line_of
from .tables import TABLES


def read_config(path: Path, flags: Mapping[str, Flag]) -> dict[str, Any]:
    """The values in a file, by the parameters of `flags`. UsageError names file, line and key, and the remedy."""
    path = expand_path(path, "--config")
    try:
        raw = path.read_bytes()
    except IsADirectoryError:
        raise UsageError(f"--config {path}: is a folder; give a TOML file, or spec.json of a run") from None
    except OSError as error:
        raise UsageError(
            f"--config {path}: {error.strerror or error}; give a TOML file, or spec.json of a run"
        ) from None
    try:
        return _read_spec(raw) if raw.lstrip().startswith(b"{") else _ConfigFile(raw, flags).values()
    except UsageError as error:
        raise UsageError(f"--config {path}{error}") from None


def _read_spec(raw: bytes) -> dict[str, Any]:
    try:
        return spec_flags(decode_json(raw, RunSpec))
    except UsageError as error:
        raise UsageError(f": {error}") from None
    except ValueError as error:
        raise UsageError(f": not the spec.json of a run ({error}); give a TOML file, or spec.json of a run") from None


class _ConfigFile:
    """A TOML file. Its errors begin behind the file's name."""

    def __init__(self, raw: bytes, flags: Mapping[str, Flag]) -> None:
        self._flags = flags
        try:
            self._text = raw.decode("utf-8-sig")
            self._content = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            raise UsageError(f": is not UTF-8 (byte {error.start}); save it as UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f": not TOML: {error}") from None

    def values(self) -> dict[str, Any]:
        """The values by parameter."""
        values: dict[str, Any] = {}
        for table, key, flag, value in self._entries():
            parameter, kind = self._flags[flag]
            if parameter in values:
                raise self._error(table, key, f"--{flag} is there twice; leave one out")
            if isinstance(value, str) and is_list(kind):
                value = [value]
            if flag == "weights" and isinstance(value, list):
                value = ",".join(map(str, value))
            try:
                checked(key, value, kind)
            except UsageError as error:
                raise self._error(table, key, str(error)) from None
            values[parameter] = value
        return values

    def _entries(self) -> Iterator[tuple[str, str, str, Any]]:
        """Every key as (table, key, flag, value)."""
        for key, value in self._content.items():
            if isinstance(value, dict) and key in TABLES:
                yield from self._in_table(key, value)
            else:
                yield "", key, self._flag("", key), value

    def _in_table(self, table: str, content: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
        for key, value in content.items():
            yield table, key, table if key == TABLES[table].key else self._flag(table, key), value

    def _flag(self, table: str, key: str) -> str:
        """The flag of a key. UsageError for one that does not belong there."""
        flag = key.replace("_", "-")
        known = [TABLES[table].key, *TABLES[table].flags] if table else [*self._flags, *TABLES]
        if flag in known and flag in self._flags:
            return flag
        if flag in ONLY_TYPED:
            raise self._error(table, key, f"{key!r} is for the command line alone; give it there as --{flag}")
        if table and flag in self._flags:
            raise self._error(table, key, f"{key!r} does not belong in [{table}]; move it above the first table")
        near = get_close_matches(flag, known, 1) or get_close_matches(flag, self._flags, 1)
        remedy = f"did you mean {near[0]!r}?" if near else "the keys are the flags in embedfleet run --help"
        raise self._error(table, key, f"unknown key {key!r}{f' in [{table}]' if table else ''}; {remedy}")

    def _error(self, table: str, key: str, what: str) -> UsageError:
        line = line_of(self._text, table, key)
        return UsageError(f"{f', line {line}' if line is not None else ''}: {what}")
