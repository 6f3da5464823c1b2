"""Parse the JSON of lenient programs: NaN and Infinity become null, halves of surrogate pairs are removed.

It is used only for text that the strict parser refuses.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

import orjson

from ...protocol.source.intake_notes import HALVES_REMOVED, NOT_FINITE
from .first_conventions import as_record, why_not_json
from .line_reader import MAX_LINE_BYTES, OversizedLine
from .records import Item, Noted, Raw, Reject, excerpt

_WORTH_TRYING = re.compile(rb"\\u[dD][89a-fA-F]|NaN|Infinity|[eE]\+?[0-9]{3}|[0-9]{309}")
_HALVES = re.compile("[\ud800-\udfff]")


def parse_line(line: bytes | OversizedLine) -> Item:
    """The object on a line, or the reason why there is none."""
    if isinstance(line, OversizedLine):
        reason = f"record of {line.n_bytes} bytes is over the limit of {MAX_LINE_BYTES}"
        return Reject(reason, excerpt(line.head))
    try:
        value = orjson.loads(line)
    except (orjson.JSONDecodeError, RecursionError) as error:
        found = parse_leniently(line)
        if found is None:
            return Reject(why_not_json(line, error), excerpt(line))
        return cleaned_record(found[0])
    return value if type(value) is dict else as_record(value)


def parse_leniently(data: bytes) -> tuple[Any] | None:
    """The parsed value in a tuple, not cleaned yet; None if it is no JSON for other reasons."""
    if _WORTH_TRYING.search(data) is None:
        return None
    try:
        return (json.loads(data.decode(), parse_int=_integer),)
    except (ValueError, RecursionError):
        return None


def cleaned_record(value: Any) -> Item:
    """The object with null for numbers that are not finite, without halves of surrogate pairs, and with a note on each."""
    if not isinstance(value, dict):
        return as_record(value)
    notes = set[str]()
    try:
        record = cleaned(cast("Raw", value), notes)
    except RecursionError:
        return Reject("not JSON: nested too deeply", "")
    return Noted(record, tuple(sorted(notes))) if notes else record


def cleaned(value: Any, notes: set[str]) -> Any:
    """Clean a JSON value in the same way, in place where possible; `notes` gains a note on each change."""
    if isinstance(value, str):
        if _is_whole(value):
            return value
        notes.add(HALVES_REMOVED)
        return _HALVES.sub("", value)
    if isinstance(value, float) and not math.isfinite(value):
        notes.add(NOT_FINITE)
        return None
    if isinstance(value, dict):
        record = cast("Raw", value)
        for key, one in record.items():
            record[key] = cleaned(one, notes)
        if all(map(_is_whole, record)):
            return record
        return {cleaned(key, notes): one for key, one in record.items()}
    if isinstance(value, list):
        array = cast("list[Any]", value)
        for place, one in enumerate(array):
            array[place] = cleaned(one, notes)
    return value  # pyright: ignore[reportUnknownVariableType] - any JSON value


def _is_whole(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    return text.isascii() or _HALVES.search(text) is None


def _integer(digits: str) -> int | float:
    """Parse an integer as the strict parser does: beyond 64 bits as a double."""
    number = int(digits) if len(digits) <= 20 else 1 << 64
    return number if -(1 << 63) <= number < 1 << 64 else float(digits)
