"""What an error of a run's files makes of the run."""

from __future__ import annotations

from ...protocol.errors import DamagedChunks, EmbedfleetError
from ..core.events import RunFailed
from .batch_runner import BatchRunner


def failure(runner: BatchRunner, error: Exception) -> RunFailed:
    """The run's end for the pool; a chunk segment that is damaged is set aside first, for the next session to read anew."""
    if isinstance(error, DamagedChunks):
        return RunFailed(runner.run, "RunFailed", runner.chunks_damaged(error))
    kind = type(error).__name__ if isinstance(error, EmbedfleetError) else "RunFailed"
    return RunFailed(runner.run, kind, str(error))
