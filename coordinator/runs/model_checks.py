"""Check the models of a run before anything else, in a child process (`worker.models.check`) for each run.

The child may crash, or wait for a hub that does not answer. Then people get a notice, the run goes on without the check, and
the workers refuse what they cannot load. A pass with all its segments needs no model, so the command of a done run can be
repeated after its models are gone. But if a model is still there and has changed, the run is refused, since its vectors are
of another model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_USAGE, RunDirectoryError, SpecMismatch, describe_exit
from ...protocol.process.child import ChildProcess
from ...protocol.run_directory.json_bytes import decode_json
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.intake import read_intake
from ...protocol.run_directory.records.passes import read_pass
from ...protocol.spec.fake_models import PREFIX
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec, RunSpec
from ...protocol.wire.control import Submit
from ...protocol.wire.model_refusal import PassToCheck, Refusal
from ..core.events import ModelsChecked, RefusedModel

CHECK_SECONDS = 60.0
"""For all models of a run. Models on this host take well under a second; a hub has ten seconds for each answer."""
CHANGED = SpecMismatch.__name__
"""Kind of a refusal: the model is not the one of the committed segments."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome for the pool. `trouble` is why the models could not be checked; empty: they were."""

    event: ModelsChecked
    trouble: str = ""


@dataclass(slots=True)
class _Check:
    process: ChildProcess
    found: IO[bytes]
    vectors: tuple[str, ...]
    """Of the run's passes, by pass index."""
    until: float


class ModelChecks:
    """The running checks, by run. Call from the thread that the children's death signal follows.

    `leave` gets the call that waits for a killed child, which may take long if a disk does not answer.
    """

    def __init__(
        self, seconds: float = CHECK_SECONDS, leave: Callable[[Callable[[], None]], None] = lambda wait: wait()
    ) -> None:
        self._seconds, self._leave = seconds, leave
        self._checks: dict[str, _Check] = {}

    def start(self, run: str, spec: RunSpec, passes: Sequence[PassSpec]) -> None:
        """Check the models of `passes`, which belong to the run or to later ones. OSError if no process can be started."""
        found = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        with tempfile.TemporaryFile() as asked:
            asked.write(msgspec.json.encode(passes))
            asked.seek(0)
            process = ChildProcess("embedfleet.worker.models.check", [], stdin=asked, stdout=found)
        vectors = tuple(one.vector for one in spec.passes)
        self._checks[run] = _Check(process, found, vectors, time.monotonic() + self._seconds)

    def pidfds(self) -> Iterator[int]:
        """Descriptors that become readable when a check ends."""
        return (one.process.pidfd for one in self._checks.values() if one.process.pidfd is not None)

    def take(self, now: float) -> list[Checked]:
        """Outcomes of the checks that have ended or take too long; `now` is of time.monotonic."""
        taken: list[Checked] = []
        for run, one in list(self._checks.items()):
            code = one.process.exit_code()
            if code is None and now < one.until:
                continue
            taken.append(_outcome(run, one, code, self._seconds))
            self.end(run)
        return taken

    def end(self, run: str) -> None:
        """Drop the run's check, if there is one; kill it if it still runs."""
        one = self._checks.pop(run, None)
        if one is not None:
            one.process.kill()
            one.found.close()
            self._leave(one.process.close)

    def close(self) -> None:
        """End all checks."""
        for run in list(self._checks):
            self.end(run)


def passes_to_check(request: Submit) -> list[PassToCheck]:
    """Passes of this run, and of the command's later runs, that still need a model or were computed by one."""
    layout = RunLayout(Path(request.out))
    later = _to_check(later_spec(request), RunLayout(layout.scores), restart=request.restart)
    found = _to_check(request.spec, layout, restart=request.restart) + later
    return [msgspec.structs.replace(one, backend=request.options.backend) for one in found]


def later_spec(request: Submit) -> RunSpec:
    """A spec with the passes of the command's later runs."""
    return msgspec.structs.replace(request.spec, passes=request.later, ensembles=())


def _to_check(spec: RunSpec, layout: RunLayout, *, restart: bool) -> list[PassToCheck]:
    asked = [one for one in spec.passes if one.kind not in CPU_KINDS and not one.model.startswith(PREFIX)]
    if restart:
        return [_asked(one, {}, whole=False) for one in asked]
    try:
        intake = read_intake(layout) if asked else None
    except RunDirectoryError:
        intake = None
    found: list[PassToCheck] = []
    for one in asked:
        whole = intake is not None and intake.complete and _is_computed(one, layout, intake.segments)
        files = _identity(one, layout)
        if files or not whole:  # a whole pass without a recorded identity has nothing to compare
            found.append(_asked(one, files, whole=whole))
    return found


def _asked(one: PassSpec, files: dict[str, str], *, whole: bool) -> PassToCheck:
    return PassToCheck(**msgspec.structs.asdict(one), files=files, whole=whole)


def _identity(one: PassSpec, layout: RunLayout) -> dict[str, str]:
    """The identity of the model that the pass was computed with; empty if none was recorded, or no segment is there."""
    name = one.outputs[0].vector
    try:
        noted = read_pass(layout, name)
    except RunDirectoryError:
        return {}
    return (noted.files or {}) if noted is not None and segments_in(layout.vector_folder(name)) else {}


def _is_computed(one: PassSpec, layout: RunLayout, segments: int) -> bool:
    folders = (layout.vector_folder(output.vector) for output in one.outputs)
    return all(len(segments_in(folder)) >= segments for folder in folders)


def _outcome(run: str, one: _Check, code: int | None, seconds: float) -> Checked:
    if code is None:
        return Checked(ModelsChecked(run), f"that took more than {seconds:.0f} s")
    one.found.seek(0)
    try:
        refused = [decode_json(line, Refusal) for line in one.found.read().splitlines()]
    except ValueError:  # msgspec's are ValueErrors
        refused = None
    if refused is None or code != (EXIT_USAGE if refused else EXIT_DONE):
        output = " ".join(one.process.tail().split())[-300:]
        how = f"{'was' if code < 0 else 'ended with'} {describe_exit(code)}"
        return Checked(ModelsChecked(run), f"the check {how}. {output}".strip())
    pass_indices = {vector: pass_index for pass_index, vector in enumerate(one.vectors)}
    return Checked(
        ModelsChecked(
            run,
            tuple(
                # No fallback for a model that has changed: vectors of the earlier one are there.
                RefusedModel(None if each.kind == CHANGED else pass_indices.get(each.vector), each.kind, each.message)
                for each in refused
            ),
        )
    )
