"""`stats.json`: figures of the last session of a run, and of each pass over all sessions.

`RunStats` has its fields. The exporter adds the sessions up (`exporter/run_directory/stats.py`).
"""

from __future__ import annotations

from ...statistics.run_stats import RunStats
from ..json_bytes import read_json
from ..layout import RunLayout


def read_stats(layout: RunLayout) -> RunStats:
    """The figures; empty without the file. RunDirectoryError if it is damaged."""
    return read_json(layout.stats, RunStats) or RunStats()
