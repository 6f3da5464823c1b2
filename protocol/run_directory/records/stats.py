"""`stats.json`: figures of the last session of a run, and of each pass over all sessions.

`RunStats` has its fields. The exporter adds the sessions up (`exporter/run_directory/stats.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...statistics.run_stats import RunStats
from ..json_bytes import read_json
from ..layout import RunLayout


def read_stats(layout: RunLayout) -> RunStats:
    """The figures; none where the file is missing. RunDirectoryError where it is no JSON object.

    Of figures that have other types than ours, only the status is taken: figures are no reason to refuse a run.
    """
    content = read_json(layout.stats, dict[str, Any])
    if content is None:
        return RunStats()
    try:
        return msgspec.convert(content, RunStats, str_keys=True)
    except msgspec.ValidationError:
        status = content.get("status")
        return RunStats(status=status if isinstance(status, str) else "")
