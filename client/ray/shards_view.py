"""ShardsView: shows the figures of all shards on standard error, as `--progress` asks."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ..output.console import message_console
from ..output.messages import messages
from ..output.progress import DUMB
from ..output.progress_lines import JSON_SECONDS, PLAIN_SECONDS
from .shard_figures import Snapshot


class ShardsView:
    """On a terminal, one line that is renewed; elsewhere, a line when a shard ends and every few seconds."""

    def __init__(self) -> None:
        settings = messages().settings
        mode = settings.progress
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() and os.environ.get("TERM") not in DUMB else "plain"
        self._mode = "none" if settings.quiet else mode
        self._status: Any = None
        self._last = Snapshot(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, None)
        self._when = 0.0

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest figures, if it is time."""
        now = time.monotonic()
        since = now - self._when
        moved = snapshot.done != self._last.done or snapshot.nodes != self._last.nodes
        match self._mode:
            case "bar":
                self._renew(snapshot.line())
            case "json" if moved or since >= JSON_SECONDS:
                messages().show_json({"progress": snapshot.to_json()})
                self._last, self._when = snapshot, now
            case "plain" if (moved and since >= 1.0) or since >= PLAIN_SECONDS:
                if snapshot != self._last:
                    messages().say(snapshot.line(), timed=True)
                self._last, self._when = snapshot, now
            case _:
                pass

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _renew(self, line: str) -> None:
        if self._status is None:
            self._status = message_console(always=messages().settings.progress == "bar").status(line)
            self._status.start()
        self._status.update(line)
