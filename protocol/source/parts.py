"""Divide the files of a source among shards.

The bytes of the files, one file after another, are cut into equal parts. JSON lines that are not packed are cut at the first
line that begins at or after a cut; Parquet at the first row group. Every other file is whole, in the part in which it begins.
The division depends on the files alone, so that each shard can find its own part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec

from ..errors import SourceError
from ..spec.shard import Shard
from .json_head import BLANKS, BOM
from .source_file import SourceFile
from .unpacked import BLOCK_BYTES, plain_head

BULK_ACTIONS = ("index", "create", "update", "delete")
"""Names of the actions of an Elasticsearch bulk file. Its lines belong together in pairs, so it is not cut."""


def part_of(files: Sequence[SourceFile], shard: Shard) -> list[SourceFile]:
    """The files, or parts of files, of a shard, in reading order. Empty if there are fewer cuts than shards.

    SourceError if a file that is cut cannot be read.
    """
    total = sum(file.size for file in files)
    first, last = (total * at // shard.count for at in (shard.index, shard.index + 1))
    if shard.index == shard.count - 1:
        last = total + 1  # with the empty files at the end
    found, offset = list[SourceFile](), 0
    for file in files:
        start, end = max(first - offset, 0), min(last - offset, file.size)
        inside = first <= offset < last
        if inside and end == file.size:
            found.append(file)
        elif start < end and (inside or start > 0) and _is_divisible(file):
            found.append(replace(file, start=start, end=end))
        elif inside:
            found.append(file)
        offset += file.size
    return found


def _is_divisible(file: SourceFile) -> bool:
    if (file.path is None and file.url is None) or file.compression is not None:
        return False
    return file.format == "parquet" or (file.format == "jsonl" and _is_plain(file))


@lru_cache(maxsize=4096)
def _is_plain(file: SourceFile) -> bool:
    """Whether a file of JSON lines begins as UTF-8, and is no bulk file.

    SourceError if its beginning cannot be read: a guess would not be that of the other shards, and records would be lost.
    """
    try:
        head = plain_head(file, BLOCK_BYTES)
    except OSError as error:
        raise SourceError(
            f"{file.where} cannot be read ({error.strerror or error}), and its beginning decides how it is divided among "
            "shards; give the same command again once it can be read"
        ) from error
    try:
        # The last character may be cut.
        head.decode() if len(head) < BLOCK_BYTES else head[: head.rfind(b"\n") + 1].decode()
    except UnicodeDecodeError:
        return False
    if b"\0" in head:
        return False
    first = head.removeprefix(BOM).lstrip(BLANKS).partition(b"\n")[0]
    try:
        record: Any = msgspec.json.decode(first)
    except ValueError:
        return False
    return not (isinstance(record, dict) and any(action in record for action in BULK_ACTIONS))
