"""Recognise the generated ids of records without an id: `FILE#NUMBER`, a position in the source."""

from __future__ import annotations

from ..run_directory.layout import RunLayout
from .check import read_stamps


class NumberedIds:
    """The generated ids of a run, to test with `in`: the part before the last `#` is the name of a file of its source."""

    def __init__(self, layout: RunLayout) -> None:
        # without `source.json`, no id counts as generated
        self.files = frozenset(one.path for one in read_stamps(layout) or ())

    def __contains__(self, chunk_id: object) -> bool:
        file, mark, number = str(chunk_id).rpartition("#")
        return bool(mark) and number.isdecimal() and file in self.files
