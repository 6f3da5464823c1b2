"""Measure the rates of a plan: embed a sample of the source with the ordinary run, on the devices of the plan.

A first run of a few rows is not counted: it brings libraries and weights into the system's cache, and makes a conversion that
the real run would then find. The second one embeds rows for some seconds. Both write to a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...protocol.errors import EXIT_DONE, RunFailed, error_from_name
from ...protocol.planning.survey import Survey, sample_source
from ...protocol.process.child import ChildProcess
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.source.corpus import plain_bytes
from ...protocol.spec.run_spec import CPU_KINDS, NONE, RunSpec
from ...protocol.statistics.pass_stats import PassStats
from ...protocol.text.token_estimates import BYTES_PER_TOKEN
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from ..output.progress import CallbackView
from ..steps.session import Interrupted, open_session
from .rates import Measured, MeasuredRun, busy_seconds

SECONDS = 15.0
"""About how long the models compute in the counted run."""
FIRST_ROWS, LEAST_ROWS = 128, 256
COMMAND_SECONDS = 60.0
MOST_BYTES, LONGEST_EXPECTED = 1 << 40, 1_000
"""As in `coordinator/runs/submission.py`."""


@dataclass(frozen=True, slots=True)
class MeasuredSize:
    """The segments of one vector."""

    rows: int
    segments: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The rates and sizes of the counted run. `sizes` are by vector."""

    measured: MeasuredRun
    sizes: Mapping[str, MeasuredSize]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the real run."""

    devices: str | None
    options: RunOptions = DEFAULTS
    seconds: float = SECONDS


def calibrate(
    spec: RunSpec, survey: Survey, folder: Path, settings: Settings, say: Callable[[str], None]
) -> Calibration:
    """Run the passes of `spec` over rows of the survey's sample in `folder`, twice. `say` takes a line for people.

    Raises the error of a run that fails, and KeyboardInterrupt after a signal.
    """
    most = survey.sampled_rows
    options = settings.options
    options = msgspec.structs.replace(options, expected_tokens=_expected_tokens(spec))
    asked = msgspec.structs.replace(
        spec, source=str(sample_source(folder)), text_field=None, id_field=None, title_field=NONE, shard=None
    )
    with tempfile.TemporaryDirectory(prefix="embedfleet-plan-") as made:
        say(f"measuring: a first run of {min(FIRST_ROWS, most):,} rows, then one of about {settings.seconds:g} s")
        first = _run(asked, Path(made) / "first", min(FIRST_ROWS, most), settings.devices, options)
        rows = _rows_for(first.passes, settings.seconds, most)
        counted = _run(asked, Path(made) / "counted", rows, settings.devices, options)
        passes = {
            one.vector: Measured(one.tokens, one.computed, one.seconds)
            for one in counted.passes
            if one.computed and one.seconds > 0
        }
        other = counted.seconds - busy_seconds(counted.passes)
        say(f"measured: {rows:,} rows in {counted.seconds:.1f} s, of which {other:.1f} s are start and end")
        measured = MeasuredRun(passes, max(other, 0.0), f"a run of {rows:,} sampled rows")
        return Calibration(measured, _sizes(spec, counted.layout))


@dataclass(frozen=True, slots=True)
class _Done:
    layout: RunLayout
    seconds: float
    """Of the whole command."""
    passes: tuple[PassStats, ...]


def _run(spec: RunSpec, out: Path, rows: int, devices: str | None, options: RunOptions) -> _Done:
    start = time.monotonic()
    limited = msgspec.structs.replace(spec, limit=rows)
    view = CallbackView(None)
    with open_session(
        devices=devices, otlp=None, share_stdin=False, options=options, views=lambda _unit: view
    ) as session:
        try:
            ending = session.follow(limited, out)
        except Interrupted:
            raise KeyboardInterrupt from None
    seconds = time.monotonic() - start
    if ending is not None and ending.status == "failed":
        raise error_from_name(ending.kind, ending.error)
    if ending is None or session.received:
        raise KeyboardInterrupt
    if ending.status != "done":
        raise RunFailed(f"the run that measures the rates was {ending.status} ({ending.error}); plan again")
    layout = RunLayout(out)
    return _Done(layout, seconds + _command_seconds(), read_stats(layout).passes)


def _expected_tokens(spec: RunSpec) -> int:
    """As the coordinator estimates them for the real run, since they decide what computes it."""
    size = plain_bytes(spec.source, MOST_BYTES) or 0
    return min(size // BYTES_PER_TOKEN, (spec.limit or size) * LONGEST_EXPECTED)


def _command_seconds() -> float:
    """How long a command takes to begin: its interpreter and imports."""
    start = time.monotonic()
    child = ChildProcess("embedfleet", ["--version"])
    try:
        code = child.wait(COMMAND_SECONDS)
    finally:
        child.close()
    return time.monotonic() - start if code == EXIT_DONE else 0.0


def _rows_for(passes: tuple[PassStats, ...], seconds: float, most: int) -> int:
    """Rows that the models compute in about so many seconds, by the first run."""
    models = [one for one in passes if one.model not in CPU_KINDS and one.computed] or [
        one for one in passes if one.computed
    ]
    each = sum(one.seconds / one.computed for one in models)
    rows = int(seconds / each) if each > 0 else most
    return min(most, max(rows, LEAST_ROWS))


def _sizes(spec: RunSpec, layout: RunLayout) -> dict[str, MeasuredSize]:
    found: dict[str, MeasuredSize] = {}
    for output in spec.outputs:
        paths = [layout.vector_segment(output.vector, one) for one in segments_in(layout.vector_folder(output.vector))]
        n_bytes = sum(path.stat().st_size for path in paths)
        found[output.vector] = MeasuredSize(sum(map(_rows_in, paths)), len(paths), n_bytes)
    return found


def _rows_in(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
