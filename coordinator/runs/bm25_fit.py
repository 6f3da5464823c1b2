"""Compute BM25's average length over every chunk, in a child process (`bm25_count.py`).

A thread starts, watches and reaps the child, so that counting blocks neither the coordinator's loop nor its interpreter. A
child that dies or falls silent is replaced; after ATTEMPTS the run fails with the reason.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import msgspec

from ...protocol.errors import DamagedChunks
from ...protocol.process.child import STEADY_MEMORY, ChildProcess
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ..core.events import CorpusMeasured, RunFailed
from .bm25_count import Outcome

ATTEMPTS = 3
PAUSE_SECONDS = 0.5
"""Pause before another attempt: the host may lack a process or a file for a moment only."""
SILENCE_SECONDS = 120.0
"""Longest silence of the child. It sends a heartbeat every second, except while it reads a segment or counts a long text."""
LOOK_SECONDS = 0.1
JOIN_SECONDS = 10.0

Report = Callable[[CorpusMeasured | RunFailed | DamagedChunks], None]


class Bm25Fit:
    """The count of one run. Calls `report` at most once: with CorpusMeasured, or with the reason why the run fails."""

    def __init__(
        self, run: str, spec: RunSpec, layout: RunLayout, report: Report, silence: float = SILENCE_SECONDS
    ) -> None:
        self._run, self._spec, self._layout, self._report, self._silence = run, spec, layout, report, silence
        self._average: float | None = None
        self._begun = False
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def begin(self, fingerprints: Mapping[int, Fingerprint]) -> None:
        """Start counting, unless it has begun, or earlier sessions began every BM25 pass (`fingerprints`, by pass index).

        Call when the first chunk segment is written, or the intake has ended: by then, segments that an earlier session left
        after a gap are removed.
        """
        if self._begun:
            return
        self._begun = True
        passes = [
            fingerprints.get(pass_index) for pass_index, one in enumerate(self._spec.passes) if one.needs_average_length
        ]
        if not passes:
            return
        if all(map(_average_length, passes)):
            self._report(CorpusMeasured(self._run))
        else:
            self._thread = threading.Thread(target=self._measure, name="bm25-fit", daemon=True)
            self._thread.start()

    def fitted(self, one: PassSpec, before: Fingerprint | None) -> PassSpec:
        """The pass with its average length: from the session that began it, else from the corpus.

        Call after CorpusMeasured.
        """
        return msgspec.structs.replace(one, average_length=_average_length(before) or self._average)

    def stop(self) -> None:
        """Report nothing more, and end soon."""
        self._ending.set()

    def end(self) -> None:
        """End the child, if it still runs, and report nothing more."""
        self.stop()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def _measure(self) -> None:
        trouble = ""
        for _ in range(ATTEMPTS):
            found = self._attempt()
            if self._ending.is_set():
                return
            if isinstance(found, Outcome) and found.damaged is not None:
                path = self._layout.chunk_segment(found.damaged)
                self._report(DamagedChunks(f"{path}: {found.trouble}", found.damaged, found.trouble))
                return
            if isinstance(found, Outcome) and not found.trouble:
                self._average = found.terms / found.chunks if found.terms else 1.0
                self._report(CorpusMeasured(self._run))
                return
            trouble = found.trouble if isinstance(found, Outcome) else found
            if self._ending.wait(PAUSE_SECONDS):
                return
        message = (
            f"the terms of the chunks, for BM25's average length, could not be counted in {ATTEMPTS} attempts ({trouble}). "
            "Run the same command again to resume"
        )
        self._report(RunFailed(self._run, "RunFailed", message))

    def _attempt(self) -> Outcome | str:
        """The outcome, or the reason why there is none."""
        try:
            with tempfile.TemporaryFile() as output:
                return self._count(output)
        except OSError as error:  # no file, pipe or process is available
            return f"no process can be started: {error.strerror or error}"

    def _count(self, output: IO[bytes]) -> Outcome | str:
        child = ChildProcess(
            "embedfleet.coordinator.runs.bm25_count", [str(self._layout.root)], environment=STEADY_MEMORY, stdout=output
        )
        try:
            code = self._watch(child, output.fileno())
            tail = " ".join(child.tail().split())[-300:]
        finally:
            child.close()
        if code is None:
            return f"the process gave no sign of life for {self._silence:.0f} s"
        output.seek(0)
        try:
            return msgspec.json.decode(output.read().partition(b"\n")[2], type=Outcome)
        except msgspec.MsgspecError:
            ended = f"a signal, {-code}" if code < 0 else f"exit code {code}"
            return f"the process ended with {ended}" + (f": {tail}" if tail else "")

    def _watch(self, child: ChildProcess, output: int) -> int | None:
        """The child's exit status; None if it was silent for too long, or `end` was called."""
        size, moved = 0, time.monotonic()
        while (code := child.wait(LOOK_SECONDS)) is None:
            now, grown = time.monotonic(), os.fstat(output).st_size
            if grown != size:
                size, moved = grown, now
            if self._ending.is_set() or now - moved > self._silence:
                return None
        return code


def _average_length(before: Fingerprint | None) -> Any:
    return before.settings.get("average_length") if before is not None else None
