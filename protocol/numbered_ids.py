"""Ids that were made up for want of one: `FILE#NUMBER`. They say where a record stood, not what it is."""

from __future__ import annotations

import msgspec

from .json_bytes import decode_json
from .layout import RunLayout
from .source_check import FileStamp


class NumberedIds:
    """Tells the made-up ids of a run: their part before the last `#` is the name of a file of its source."""

    def __init__(self, layout: RunLayout) -> None:
        try:
            stamps = decode_json(layout.source.read_bytes(), list[FileStamp])
        except (OSError, msgspec.MsgspecError):  # a copy without it: then no id is known to be made up
            stamps = []
        self.files = frozenset(one.path for one in stamps)

    def __contains__(self, chunk_id: object) -> bool:
        file, mark, number = str(chunk_id).rpartition("#")
        return bool(mark) and number.isdecimal() and file in self.files
