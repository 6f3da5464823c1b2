"""The rate of a pass: measured on these devices, else estimated from the published matrix rate of a GPU, or from the
measured one of this host's processors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import RunDirectoryError
from ...protocol.object_storage.address import with_addresses
from ...protocol.planning.gpus import UTILISATION
from ...protocol.planning.model_figures import PassFigures, weakest
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.run_directory.run_json import read_spec
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec
from ...protocol.statistics.pass_stats import PassStats
from .device_choice import PlannedDevices
from .plan import Figure

CPU_UTILISATION = 0.7
"""The share of a processor's matrix rate that a forward pass is assumed to reach: 0.79 to 0.95 were measured of one core
(benchmarks/results), without tokenizing, padding and the work of other processes."""
LEAST_SECONDS = 1.0
"""A pass that took less says nothing about the rate."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A pass as it ran on these devices."""

    tokens: int
    rows: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A run as it was on these devices. `other_seconds` are those in which no model computed: start, load, commit, end."""

    passes: Mapping[str, Measured]
    other_seconds: float | None
    origin: str


def earlier_run(out: Path, passes: Sequence[PassSpec], devices: PlannedDevices) -> MeasuredRun | None:
    """The rates of an earlier run in `out`, of the passes that it computed alike on devices of the same names; None without."""
    layout = RunLayout(out)
    try:
        before = {one.vector: one for one in read_spec(layout).passes}
        stats = read_stats(layout)
    except RunDirectoryError:
        return None
    found: dict[str, Measured] = {}
    for one in passes:
        stood, timed = before.get(one.vector), stats.by_vector().get(one.vector)
        if stood == one and timed is not None and _is_alike(timed, devices, light=one.kind in CPU_KINDS):
            found[one.vector] = Measured(timed.tokens, timed.computed, timed.seconds)
    if not found:
        return None
    single = all(one.sessions == 1 and not one.untimed for one in stats.passes)
    other = stats.seconds - busy_seconds(stats.passes) if single and len(found) == len(stats.passes) else None
    origin = f"the run in {with_addresses(str(out))}"
    return MeasuredRun(found, max(other, 0.0) if other is not None else None, origin)


def _is_alike(timed: PassStats, devices: PlannedDevices, *, light: bool) -> bool:
    if timed.seconds < LEAST_SECONDS or not timed.tokens:
        return False
    return light or set(timed.rows_by_device) <= set(devices.names)


def busy_seconds(passes: Sequence[PassStats]) -> float:
    """The time in which models compute: one after the other. What needs no model runs beside them."""
    models = [one.seconds for one in passes if one.model not in CPU_KINDS]
    light = [one.seconds for one in passes if one.model in CPU_KINDS]
    return sum(models) if models else max(light, default=0.0)


def rate_of(
    spec: PassSpec,
    figures: PassFigures,
    devices: PlannedDevices,
    measured: MeasuredRun | None,
    matrix_rate: float,
) -> Figure | None:
    """Tokens a second of all devices together; None if it is not known."""
    known = measured.passes.get(spec.vector) if measured is not None else None
    if measured is not None and known is not None and known.tokens:
        return Figure(value=known.tokens_per_second, basis="measured", note=measured.origin)
    if figures.row_seconds and figures.tokens:
        rows_per_second = max(1, devices.threads) / figures.row_seconds
        note = "one core was timed on the sample"
        return Figure(value=rows_per_second * figures.tokens / figures.rows, basis="assumed", note=note)
    work = operations_per_token(figures)
    if not work:
        return None
    if devices.is_gpu:
        if devices.gpu is None:
            return None
        rate = devices.gpu.teraflops * 1e12 * UTILISATION * devices.count
        note = f"{devices.gpu.teraflops:g} TFLOP/s each ({devices.gpu.source}), of which {UTILISATION:.0%} are assumed"
        return Figure(value=rate / work, basis=weakest("assumed", figures.model.basis), note=note)
    if not matrix_rate:
        return None
    note = f"{matrix_rate / 1e9:,.0f} GFLOP/s measured here, of which {CPU_UTILISATION:.0%} are assumed"
    return Figure(value=matrix_rate * CPU_UTILISATION / work, basis="assumed", note=note)


def operations_per_token(figures: PassFigures) -> float:
    """Floating-point operations of a forward pass, by token: two for each parameter that is multiplied, and the attention to
    all tokens of the text."""
    facts = figures.model
    if not facts.parameters or not figures.tokens:
        return 0.0
    attended = figures.squares / figures.tokens
    return 2.0 * (facts.parameters - facts.table_parameters) + 4.0 * facts.layers * facts.hidden * attended
