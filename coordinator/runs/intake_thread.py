"""A run's source, read in a thread of its own, which reports each segment to the loop as an event."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...protocol.errors import DamagedChunks, EmbedfleetError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.source.corpus import STDIN
from ...protocol.spec.run_spec import RunSpec
from ...protocol.text.token_estimates import estimated_tokens
from ..core.events import Event, IntakeDone, RunFailed, SegmentSpooled
from ..intake.failure import intake_failure
from ..intake.loader import ChunkLoader, SpooledSegment
from ..intake.segment_writer import SegmentLimits
from .metadata_weights import asks_for_weights, has_metadata_weights

JOIN_SECONDS = 10.0


class IntakeThread:
    """The thread and its counts. It calls `report` and `left_out`."""

    def __init__(
        self,
        run: str,
        layout: RunLayout,
        report: Callable[[Event | DamagedChunks], None],
        left_out: Callable[[str], None],
    ) -> None:
        self._run, self._layout, self._report, self._left_out = run, layout, report, left_out
        self.rejected = 0
        self.notes: dict[str, int] = {}
        """Records by what the intake did to them, with the keys of `protocol/source/intake_notes.py`."""
        self.done = False
        self._joinable = True
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_weights = False
        """Whether a chunk spooled so far has weights in its metadata; true from the start if no pass can use them."""

    def start(self, spec: RunSpec, limits: SegmentLimits) -> None:
        """Start reading."""
        self._has_weights = not any(asks_for_weights(one) for one in spec.passes)
        loader = ChunkLoader(spec, self._layout, limits, self._spooled, self._stopping.is_set, self._left_out)
        self._joinable = spec.source != STDIN  # reading it blocks until somebody writes
        self._thread = threading.Thread(target=self._load, args=(loader, spec.source), name="intake", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading at the next block; spooled segments stay."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for its end, which comes at the next block after `stop`."""
        if self._thread is not None and self._joinable:
            self._thread.join(JOIN_SECONDS)

    def _spooled(self, segment: SpooledSegment) -> None:
        self.rejected += segment.rejected
        tokens = estimated_tokens(segment.n_bytes, segment.rows)
        self._has_weights = self._has_weights or has_metadata_weights(self._layout, segment)
        self._report(SegmentSpooled(self._run, segment.segment, segment.rows, tokens, has_weights=self._has_weights))

    def _load(self, loader: ChunkLoader, source: str) -> None:
        try:
            counts = loader.load()
        except DamagedChunks as error:
            self._report(error)
        except EmbedfleetError as error:
            self._report(RunFailed(self._run, type(error).__name__, str(error)))
        except Exception as error:  # noqa: BLE001 - a full disk, a vanished source: the run fails with one message
            self._report(RunFailed(self._run, "RunFailed", intake_failure(error, source, self._layout)))
        else:
            if counts.complete:
                self.rejected, self.notes, self.done = counts.rejected, counts.notes, True
                self._report(IntakeDone(self._run))
