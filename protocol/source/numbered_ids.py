"""Generated ids, `FILE#NUMBER`, of records without an id. They give a record's position, and do not identify its content."""

from __future__ import annotations

from ..run_directory.layout import RunLayout
from .check import read_stamps


class NumberedIds:
    """Recognises the generated ids of a run: the part before the last `#` is the name of a file of its source."""

    def __init__(self, layout: RunLayout) -> None:
        # a copy without them: then no id counts as generated
        self.files = frozenset(one.path for one in read_stamps(layout) or ())

    def __contains__(self, chunk_id: object) -> bool:
        file, mark, number = str(chunk_id).rpartition("#")
        return bool(mark) and number.isdecimal() and file in self.files
