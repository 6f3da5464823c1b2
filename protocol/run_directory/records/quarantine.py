"""`quarantine.jsonl` and `intake/NNNNN.rejected.jsonl`: a line for each record or row that lacks a vector."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class QuarantineLine(TypedDict):
    """A rejected record has `file`, `record` and `excerpt`, and its `id` if it is known; in shards of a file in object storage
    also `from_byte`. A row in quarantine has all the other fields, and an `excerpt` of its text."""

    file: NotRequired[str]
    """Path below the source."""
    record: NotRequired[int]
    """Its number in the file, from 1."""
    from_byte: NotRequired[int]
    """If it is there, the record is counted among the lines that begin at this byte of the file or after it."""
    row: NotRequired[int]
    id: NotRequired[str]
    vector: NotRequired[str]
    """The vector that the row lacks."""
    reason: str
    n_tokens: NotRequired[int]
    estimated: NotRequired[bool]
    """Whether `n_tokens` is estimated from the bytes of the text."""
    excerpt: NotRequired[str]
