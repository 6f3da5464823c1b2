"""Find out by its beginning whether a `.json` file has records, an object with an array of records, or something else."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .source_file import SourceFile
from .unpacked import head_of

HEAD_BYTES = 64 << 10
BOM = b"\xef\xbb\xbf"
BLANKS = b" \t\r\n"
TEXT_FIELDS = ("text", "page_content", "content")

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(rb"[^\"{}\[\]]*+(?:(" + STRING + rb")|([{}\[\]]))", re.DOTALL)
_VALUE = re.compile(rb"\s*+:\s*+(\[\s*+\{)?")


def holds_records(file: SourceFile, text_field: str | None) -> bool:
    """Whether a `.json` file in a folder has records with a text field: an array of objects, JSON lines or one object.

    True also for a file that cannot be read: the intake reports what is wrong with it.
    """
    head = head_of(file, HEAD_BYTES).removeprefix(BOM).lstrip(BLANKS)
    if not head:
        return True
    names = {*TEXT_FIELDS, *(text_field or "").split(".")} - {""}
    anywhere = re.search(rb'"(?:' + b"|".join(re.escape(name.encode()) for name in names) + rb')"\s*:', head)
    if head[:1] == b"[":
        return anywhere is not None and head[1:].lstrip(BLANKS)[:1] == b"{"
    if head[:1] != b"{":
        return False
    if begins_lines(head) and head.partition(b"\n")[2].lstrip(BLANKS)[:1] == b"{":
        return anywhere is not None
    # One object, perhaps the settings of a program: it is a record only if a text field is at its top level.
    return not names.isdisjoint(keys_of(head)[0]) or b'"page_content"' in head


def array_inside(head: bytes) -> str | None:
    """The first field of the object in `head` whose value is an array of objects; None if the object has a text field, or if
    other objects follow it."""
    keys, arrays, stop = keys_of(head)
    if not arrays or not set(TEXT_FIELDS).isdisjoint(keys) or (stop and head[stop:].strip(BLANKS)):
        return None
    return arrays[0]


def begins_lines(head: bytes) -> bool:
    """Whether an object that begins in `head` ends on the same line."""
    return keys_of(head.lstrip(BLANKS).partition(b"\n")[0])[2] > 0


def keys_of(head: bytes) -> tuple[list[str], list[str], int]:
    """The fields of the object that begins in `head`, those whose value is an array of objects, and the offset of the
    object's end, 0 if it does not end there."""
    keys, arrays, depth, at = list[str](), list[str](), 0, 0
    while (token := _TOKEN.match(head, at)) is not None:
        at = token.end()
        string, bracket = token.groups()
        if bracket is not None:
            depth += 1 if bracket in b"{[" else -1
            if depth == 0:
                return keys, arrays, at
        elif depth == 1 and (value := _VALUE.match(head, at)) is not None:
            name = _text(string)
            keys.append(name)
            if value[1]:
                arrays.append(name)
    return keys, arrays, 0


def _text(string: bytes) -> str:
    try:
        found: Any = msgspec.json.decode(string)
    except ValueError:
        return string.decode("utf-8", "replace")
    return str(found)
