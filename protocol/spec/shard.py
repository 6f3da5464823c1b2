"""A shard: one of several even parts of a source, embedded as a run of its own."""

from __future__ import annotations

import re

import msgspec

from ..errors import UsageError

MOST_SHARDS = 100_000
_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Shard(msgspec.Struct, frozen=True):
    """Part `index` of `count`, from 0. As text `INDEX/COUNT`, for example 17/64."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """The shard that `text` names. UsageError for anything but I/N with I below N."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--shard {text!r}: give I/N, the number of the shard from 0 and their count, as in 17/64")
    index, count = int(found[1]), int(found[2])
    check_count(count, f"--shard {text}")
    if index >= count:
        raise UsageError(f"--shard {text}: shards are numbered from 0; give 0/{count} to {count - 1}/{count}")
    return Shard(index, count)


def check_count(count: int, flag: str) -> None:
    """Raise UsageError for an impossible number of shards; `flag` is the flag that the user typed."""
    if not 1 <= count <= MOST_SHARDS:
        raise UsageError(f"{flag}: give 1 to {MOST_SHARDS:,} shards")
