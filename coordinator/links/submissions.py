"""From a client's submission to a run in the queue. Checks that read a disk run on a background thread."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.source.corpus import STDIN
from ...protocol.spec.known_models import check_known
from ...protocol.spec.run_spec import PassSpec, RunSpec, check_path, check_spec
from ...protocol.wire.control import Accepted, Refused, Submit
from ...protocol.wire.run_options import check_options
from ..runs.batch_runner import BatchRunner
from ..runs.exporter_process import ExporterProcess
from ..runs.model_checks import ModelChecks, later_spec
from ..runs.submission import Findings, look_at
from ..telemetry.observer import Observers
from .context import Context

STOPPING = "the coordinator is shutting down"


@dataclass(frozen=True, slots=True)
class _Submission:
    request: Submit
    answer: Callable[[Accepted | Refused], object]


class Submissions:
    """Submissions that are being checked, by the names of their runs."""

    def __init__(
        self,
        context: Context,
        checks: ModelChecks,
        start_exporter: Callable[[], ExporterProcess],
        observers: Observers | None,
        *,
        shared: bool = False,
    ) -> None:
        """`shared`: clients of other processes submit, whose standard input is not this process's."""
        self._shared = shared
        self._context, self._checks, self._start_exporter, self._observers = context, checks, start_exporter, observers
        self._looked_at: dict[str, _Submission] = {}
        self._stopping = False

    def take(self, request: Submit, answer: Callable[[Accepted | Refused], object]) -> None:
        """Check a submission and queue its run; call `answer` once it is accepted or refused.

        EmbedfleetError if it is refused at once.
        """
        if self._stopping:
            raise UsageError(STOPPING)
        check_spec(request.spec)
        if self._shared and request.spec.source == STDIN:
            raise UsageError(
                "source -: `embedfleet serve` cannot read your standard input; give a file or a folder on its host, or use "
                "`embedfleet run -`"
            )
        check_known(request.spec)
        check_known(later_spec(request))
        check_options(request.options)
        check_path(request.out, "out")
        out = Path(request.out)
        if not out.is_absolute():
            raise UsageError(f"out {request.out!r}: give an absolute path; it is on the coordinator's host")
        if (busy := self._writing_to(out)) is not None:
            raise UsageError(f"--out {out}: run {busy} is writing there")
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._looked_at[run] = _Submission(request, answer)
        self._context.background.begin(run)
        # If all devices are on other hosts, the models may be there too: do not look for them here.
        models = self._context.hosts.local is not None
        look = partial(look_at, request, self._context.devices(), models=models, source=self._shared)
        self._context.background.post(run, look, partial(self._looked, run))

    def stop(self) -> None:
        """Refuse the submissions being checked, and all later ones."""
        self._stopping = True
        for run in list(self._looked_at):
            self._refuse(run, UsageError(STOPPING))

    def _writing_to(self, out: Path) -> str | None:
        """The run that writes to the folder; None: there is none."""
        for run, runner in (self._context.runs | self._context.ending).items():
            if runner.layout.root == out:
                return run
        return next((run for run, one in self._looked_at.items() if Path(one.request.out) == out), None)

    def _looked(self, run: str, findings: Future[Findings]) -> None:
        try:
            self._accept(run, findings.result())
        except (EmbedfleetError, OSError, ValueError) as error:  # a path that nobody can open, for one
            self._refuse(run, error)

    def _refuse(self, run: str, error: Exception) -> None:
        submission = self._looked_at.pop(run)
        self._context.background.end(run)
        submission.answer(refusal(submission.request.request, error))

    def _accept(self, run: str, found: Findings) -> None:
        submission = self._looked_at[run]
        request = submission.request
        observer = self._observers.run(run, request.spec, request.traceparent) if self._observers is not None else None
        runner = self._context.runs[run] = BatchRunner(
            run,
            request.spec,
            Path(request.out),
            restart=request.restart,
            options=found.placed.options,
            background=self._context.background,
            emit=self._context.emit,
            start_exporter=self._start_exporter,
            observer=observer,
        )
        del self._looked_at[run]
        if found.placed.reason:
            runner.telemetry.event("sparse_placed", reason=found.placed.reason)
        for device in self._context.devices():
            if device.cores_note:
                runner.telemetry.event("cores_limited", device=device.name, reason=device.cores_note)
        unchecked = bool(found.asked) and self._check_models(run, request.spec, found.asked)
        runner.run_exclusive_ensemble(unchecked=unchecked)
        self._context.say(f"run {run}: {request.spec.source} into {request.out}")
        submission.answer(Accepted(request.request, run, runner.telemetry.traceparent))

    def _check_models(self, run: str, spec: RunSpec, asked: Sequence[PassSpec]) -> bool:
        """Start the check of the models. Return whether ModelsChecked will follow."""
        try:
            self._checks.start(run, spec, asked)
        except OSError as error:
            self._context.note(run, "models_unchecked", {"reason": str(error)})
            return False
        return True


def refusal(request_number: int, error: Exception) -> Refused:
    """The answer to a client's request that failed with `error`."""
    kind = type(error).__name__ if isinstance(error, EmbedfleetError) else "UsageError"
    return Refused(request_number, kind, str(error))
