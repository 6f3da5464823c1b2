"""Filters as they are typed: `KEY=VALUE`, `KEY=VALUE|VALUE`, `KEY>=BOUND`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from ...protocol.errors import UsageError
from ...protocol.index.date_span import date_span
from ...protocol.index.metadata_filter import MetadataFilter, Relation, number_span

MOST_SHOWN = 100
"""Most characters of a filter or a key that a message shows."""

_FILTER = re.compile(r'((?:[^=<>"]|"[^"]*")*)(>=|<=|[=<>])(.*)', re.DOTALL)
"""Key, relation and value. A part of the key in double quotes may have any character but a double quote."""

_SIGNS = ("=", "<", ">")

_BAR = re.compile(r"(?<!\\)\|")
"""Between values. A backslash before a bar makes it a part of a value."""


def split_filters(filters: Sequence[str]) -> list[MetadataFilter]:
    """The filters in these texts. UsageError for any other form."""
    return [_split(text) for text in filters]


def shorten(text: str) -> str:
    """A text as a message shows it."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _split(text: str) -> MetadataFilter:
    parts = _FILTER.fullmatch(text)
    if parts is None or not parts[1].strip():
        sign = (
            """; put a key that contains =, < or > in double quotes, as in --filter '"a=b"=x'""" if '"' in text else ""
        )
        raise UsageError(
            f"--filter {shorten(text)!r}: give KEY=VALUE, as in --filter module=json; or a range, in quotes because of the "
            f"shell, as in --filter 'words>=100'{sign}"
        )
    key, relation, value = parts[1].strip(), cast("Relation", parts[2]), parts[3]
    if key.endswith("!"):
        raise UsageError(f"--filter {shorten(text)!r}: no filter leaves chunks out; give KEY=VALUE, or KEY=A|B")
    if relation == "=" and value.startswith(_SIGNS) and value.strip("=<>"):
        raise UsageError(
            f"--filter {shorten(text)!r}: the relations are =, >, >=, < and <=; put a backslash before a value that begins "
            f"with {value[0]}, as in '{shorten(key)}=\\{shorten(value)}'"
        )
    if relation == "=":
        value = value.removeprefix("\\") if value[1:].startswith(_SIGNS) else value
        return MetadataFilter(key, tuple(one.replace("\\|", "|") for one in _BAR.split(value)))
    bound = value.strip()
    if number_span(bound) is None and date_span(bound) is None:
        remedy = f"give a number or a date after {relation}, as in 'words{relation}100' or 'date{relation}2024-01-31'"
        only = "a range has one bound" if "|" in bound else "texts are compared by = alone"
        only = "give each filter a --filter of its own" if "," in bound else only
        raise UsageError(f"--filter {shorten(text)!r}: {remedy}; {only}")
    return MetadataFilter(key, (bound,), relation)
