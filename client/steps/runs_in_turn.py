"""RunsInTurn: runs of one session, one after another. Each is queued before the one before it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import EmbedfleetError
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.control import RunEnded
from .session import Session, SubmittedRun


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to submit."""

    spec: RunSpec
    out: Path
    restart: bool = False
    later: Sequence[PassSpec] = ()


class RunsInTurn:
    """Runs that load the same models keep the workers of the run before them, since they are queued in time.

    `upcoming` returns the next run, or None if none is known yet. It is asked several times a second.
    """

    def __init__(self, session: Session, upcoming: Callable[[], PlannedRun | None]) -> None:
        self._session, self._upcoming = session, upcoming
        self._ahead: SubmittedRun | EmbedfleetError | None = None

    def endings(self) -> Generator[RunEnded | EmbedfleetError | None]:
        """Yield how each run ended, as `Session.watch` does, or the error that refused it, until there are no more runs.

        After a signal no other run begins. If the iteration is given up, so is the run that is queued.
        """
        try:
            self._look_ahead()
            while (run := self._ahead) is not None and not self._session.received:
                self._ahead = None
                self._look_ahead()
                if isinstance(run, EmbedfleetError):
                    yield run
                else:
                    yield self._session.watch(run, meanwhile=self._look_ahead)
        finally:
            self._give_up()

    def _look_ahead(self) -> None:
        """Queue the next run, if there is one and no signal has come."""
        if self._session.received:
            self._give_up()
            return
        if self._ahead is None and (planned := self._upcoming()) is not None:
            try:
                self._ahead = self._session.submit(
                    planned.spec, planned.out, restart=planned.restart, later=planned.later
                )
            except EmbedfleetError as error:
                self._ahead = error

    def _give_up(self) -> None:
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, SubmittedRun):
            with contextlib.suppress(EmbedfleetError):  # the coordinator may be gone
                self._session.cancel(ahead)
