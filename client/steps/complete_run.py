"""A run that must come to its end for the next step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...protocol.errors import EmbedfleetError, error_from_name
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.control import RunEnded
from .session import Interrupted, Session


def complete(
    session: Session, spec: RunSpec, out: Path, *, restart: bool = False, later: Sequence[PassSpec] = ()
) -> RunEnded:
    """Follow the run to its end. Raises Interrupted after a signal, or the run's error if it fails."""
    if session.received:
        raise Interrupted
    return completed(session.follow(spec, out, restart=restart, later=later))


def completed(ending: RunEnded | EmbedfleetError | None) -> RunEnded:
    """The ending of a run that is done. Raises Interrupted for one that was stopped, or the error of one that failed."""
    if isinstance(ending, EmbedfleetError):
        raise ending
    if ending is None or ending.status == "interrupted":
        raise Interrupted
    if ending.status == "failed":
        raise error_from_name(ending.kind, ending.error)
    return ending
