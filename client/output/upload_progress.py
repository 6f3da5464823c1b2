"""The progress of an upload, shown as that of a run with one pass."""

from __future__ import annotations

import time

from ...protocol.wire.control import PassProgress, Progress
from .messages import messages
from .progress import make_view


class UploadProgress:
    """Shows how many points are sent, and says when the server alone has work left."""

    def __init__(self, *, indexing: bool = True) -> None:
        """`indexing`: the server builds its index once every point is sent."""
        self._indexing = indexing
        self._view = make_view("points")
        self._started = time.monotonic()
        self._sent = False

    def show(self, count: int, due: int) -> None:
        """Show that `count` of `due` points are sent, or were there."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = count / seconds
        one = PassProgress(
            vector="upload",
            model="",
            rows_done=count,
            rows_committed=count,
            rows_per_second=rate,
            tokens_per_second=0.0,
            share_done=count / due if due else 1.0,
            seconds_left=(due - count) / rate if rate else None,
            devices=(),
            in_flight=0,
            state="working" if count < due else "done",
        )
        self._view.show(Progress(run="upload", status="running", rows=due, intake_done=True, rejected=0, passes=(one,)))
        if count >= due and self._indexing and not self._sent:
            self._sent = True
            messages().say("every point is sent; waiting for the server to build its index", timed=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._view.close()
