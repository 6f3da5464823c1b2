"""`stats.json`: what the last session of a run was like, and what all sessions together took for each pass.

Its fields are those of `RunStats`. The exporter adds the sessions up (`exporter/run_directory/stats.py`).
"""

from __future__ import annotations

from ...statistics.run_stats import RunStats
from ..json_bytes import read_json
from ..layout import RunLayout


def read_stats(layout: RunLayout) -> RunStats:
    """The figures; without any where the file is missing. RunDirectoryError where it is damaged."""
    return read_json(layout.stats, RunStats) or RunStats()
