"""Messages to one run's exporter, in order: to the first process, and to those that replace it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import RunSpec
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire.export import BeginPass, OpenRunMessage, Record
from .exporter_process import ExporterProcess


class ExportSession:
    """`start` starts an exporter; `process` is the current one, None if there is none."""

    def __init__(self, run: str, out: Path, start: Callable[[], ExporterProcess], *, restart: bool) -> None:
        self._run, self._out, self._start, self._restart = run, out, start, restart
        self.process: ExporterProcess | None = None
        self._asked = False
        """Whether OpenRun was sent; nothing may be sent before it."""
        self._early: list[Record] = []
        """Events recorded before that."""
        self._begun: set[int] = set()

    def prepare(self) -> None:
        """Start an exporter, which waits for OpenRun."""
        self.process, self._asked = self._start(), False

    def open(self, spec: RunSpec) -> None:
        """Let the exporter take the directory, a new one if none waits; `restart` counts only until one has taken it."""
        if self.process is None:
            self.prepare()
        self._asked = True
        self._begun.clear()
        self.send(OpenRunMessage(PROTOCOL, __version__, self._run, str(self._out), spec, self._restart))

    def opened(self) -> None:
        """Note that the exporter has taken the directory, and send the early events."""
        self._restart = False  # not before: an exporter that died while restarting left parts of the old run
        for record in self._early:
            self.send(record)
        self._early.clear()

    def record(self, event: str, when: float, fields: dict[str, Any]) -> None:
        """Have an event written to events.jsonl."""
        record = Record(event, when, fields)
        if self._asked:
            self.send(record)
        else:
            self._early.append(record)

    def begin_pass(self, pass_index: int, fingerprint: Fingerprint, placement: str) -> None:
        """Send, once, what the pass is computed with."""
        if pass_index not in self._begun:
            self._begun.add(pass_index)
            self.send(BeginPass(pass_index, fingerprint, placement))

    def send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        """Send to the exporter, if there is one."""
        if self.process is not None:
            self.process.send(message, frames)

    def drop(self) -> ExporterProcess | None:
        """Kill the exporter and return it; None: there was none. The caller waits for its end on a background thread."""
        dropped, self.process, self._asked = self.process, None, False
        if dropped is not None:
            dropped.end()
        return dropped
