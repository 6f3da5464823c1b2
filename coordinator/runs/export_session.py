"""What one run's exporter is told, in order: by the first process, and by those that replace it."""

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
    """`start` starts an exporter; `process` is the one that is there."""

    def __init__(self, run: str, out: Path, start: Callable[[], ExporterProcess], *, restart: bool) -> None:
        self._run, self._out, self._start, self._restart = run, out, start, restart
        self.process: ExporterProcess | None = None
        self._asked = False
        """Whether it was told to take the directory, before which it can be told nothing."""
        self._early: list[Record] = []
        """Events from before that."""
        self._begun: set[int] = set()

    def prepare(self) -> None:
        """Start an exporter, which then waits."""
        self.process, self._asked = self._start(), False

    def open(self, spec: RunSpec) -> None:
        """Let the exporter take the directory, a new one if none waits; `restart` counts only until one has taken it."""
        if self.process is None:
            self.prepare()
        self._asked = True
        self._begun.clear()
        self.send(OpenRunMessage(PROTOCOL, __version__, self._run, str(self._out), spec, self._restart))

    def opened(self) -> None:
        """The directory is taken."""
        self._restart = False  # not before: an exporter that died of it left some of the old run there
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

    def begin_pass(self, number: int, fingerprint: Fingerprint, placement: str) -> None:
        """Say, once, what the pass is computed with."""
        if number not in self._begun:
            self._begun.add(number)
            self.send(BeginPass(number, fingerprint, placement))

    def send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        """Tell the exporter, if one is there."""
        if self.process is not None:
            self.process.send(message, frames)

    def drop(self) -> ExporterProcess | None:
        """End the exporter if there is one; whoever asks waits for its end, beside the loop."""
        dropped, self.process, self._asked = self.process, None, False
        if dropped is not None:
            dropped.end()
        return dropped
