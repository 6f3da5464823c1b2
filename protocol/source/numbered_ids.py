"""Generated ids of records without an id, a position in the source: `FILE#NUMBER`, or `FILE@BYTE#NUMBER` if the lines of a part
of a file are numbered from that byte on."""

from __future__ import annotations

from ..run_directory.layout import RunLayout
from .check import read_stamps


def numbered_id(file: str, number: int, from_byte: int = 0) -> str:
    """The id of a record without one."""
    return f"{file}@{from_byte}#{number}" if from_byte else f"{file}#{number}"


class NumberedIds:
    """The generated ids of a run, to test with `in`: the part before the last `#` is the name of a file of its source."""

    def __init__(self, layout: RunLayout) -> None:
        # without `source.json`, no id counts as generated
        self.files = frozenset(one.path for one in read_stamps(layout) or ())

    def __contains__(self, chunk_id: object) -> bool:
        place, mark, number = str(chunk_id).rpartition("#")
        if not mark or not number.isdecimal():
            return False
        file, _, byte = place.rpartition("@")
        return place in self.files or (byte.isdecimal() and file in self.files)
