"""Generated ids, `FILE#NUMBER`, of records without an id. They give a record's position, and do not identify its content."""

from __future__ import annotations

import msgspec

from .layout import RunLayout
from .source_check import FileStamp


class NumberedIds:
    """Recognises the generated ids of a run: the part before the last `#` is the name of a file of its source."""

    def __init__(self, layout: RunLayout) -> None:
        try:
            stamps = msgspec.json.decode(layout.source.read_bytes(), type=list[FileStamp])
        except (OSError, msgspec.MsgspecError):  # a copy without it: then no id counts as generated
            stamps = []
        self.files = frozenset(one.path for one in stamps)

    def __contains__(self, chunk_id: object) -> bool:
        file, mark, number = str(chunk_id).rpartition("#")
        return bool(mark) and number.isdecimal() and file in self.files
