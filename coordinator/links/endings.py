"""Finished runs: their watchers get the end once none of their processes and threads is left."""

from __future__ import annotations

import time
from concurrent.futures import Future

from ..core.actions import RunOver
from ..runs.model_checks import ModelChecks
from .client_link import ClientLink
from .context import Context


class Endings:
    """Finished runs by name. When a client gets the end, the run's directory is free for another run."""

    def __init__(self, context: Context, clients: ClientLink, checks: ModelChecks) -> None:
        self._context, self._clients, self._checks = context, clients, checks
        self._over: dict[str, RunOver] = {}

    def begin(self, action: RunOver) -> None:
        """End the processes and threads of a run that the pool has finished."""
        run, runs = action.run, self._context.runs
        had_fleet = next(iter(runs)) == run  # runs are in the order in which they get it
        runner = self._context.ending[run] = runs.pop(run)
        self._over[run] = action
        if had_fleet and runs:
            next(iter(runs.values())).report.begin()
        self._checks.end(run)
        self._context.background.end(run)

        def finished(answer: Future[None]) -> None:
            answer.result()
            self._tell(run)

        self._context.background.post("", runner.finish(), finished)

    def close(self) -> None:
        """Send all ends now, without waiting for processes and threads."""
        for run in list(self._over):
            self._tell(run)

    def _tell(self, run: str) -> None:
        action = self._over.pop(run)
        self._clients.tell_end(self._context.ending.pop(run), action)  # before any message is written
        for text in self._context.notices.due(time.monotonic(), end=True):
            self._context.say(text)
        self._context.say(f"run {run}: {action.status}" + (f": {action.error}" if action.error else ""))
