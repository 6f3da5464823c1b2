"""The progress of a merge, shown as that of a run with a pass for each step that counts rows."""

from __future__ import annotations

import time

from ...protocol.wire.control import PassProgress, Progress
from .progress import make_view

NAMES = {"ids": "comparing ids", "copy": "copying", "publish": "collection"}
"""The steps that count rows, by their names in the process's lines."""


class MergeProgress:
    """Shows how far each step is."""

    def __init__(self) -> None:
        self._view = make_view("rows")
        self._begun: dict[str, float] = {}
        self._passes: dict[str, PassProgress] = {}

    def show(self, step: str, done: int, of: int) -> None:
        """Show that `done` of `of` rows of a step are done. Steps that count something else are not shown."""
        if step not in NAMES:
            return
        now = time.monotonic()
        seconds = max(now - self._begun.setdefault(step, now), 1e-9)
        rate = done / seconds if seconds > 1e-3 else 0.0
        self._passes[step] = PassProgress(
            vector=NAMES[step],
            model="",
            rows_done=done,
            rows_committed=done,
            rows_per_second=rate,
            tokens_per_second=0.0,
            share_done=done / of if of else 1.0,
            seconds_left=(of - done) / rate if rate else None,
            devices=(),
            in_flight=0,
            state="working" if done < of else "done",
        )
        passes = tuple(self._passes.values())
        self._view.show(Progress(run="merge", status="running", rows=of, intake_done=True, rejected=0, passes=passes))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._view.close()
