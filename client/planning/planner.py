"""`embedfleet plan`, as the command and as `embedfleet.plan`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError, SourceError, UsageError
from ...protocol.object_storage.address import Address, is_address, parse_address
from ...protocol.object_storage.copies import copied_records
from ...protocol.object_storage.probe import check_store
from ...protocol.planning.gpus import Gpus, parse_gpus
from ...protocol.planning.model_figures import PassesAnswer, PassesRequest, VectorFigures
from ...protocol.planning.survey import Survey, SurveyRequest
from ...protocol.run_directory.layout import RunLayout
from ...protocol.source.corpus import STDIN
from ...protocol.spec.run_spec import RunSpec
from ...protocol.spec.shard import check_count
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from ..arguments import expand_path
from ..options.embedder_options import checked, names_in, spec_options
from ..options.run_defaults import default_models, default_out
from ..options.spec_builder import build_spec
from .calibration import SECONDS, Calibration, MeasuredSize, Settings, calibrate
from .child_answer import ask
from .device_choice import PlannedDevices, devices_here, named_gpus
from .estimate import Inputs, make_plan
from .plan import Plan
from .rates import earlier_run

SURVEY, PASSES = "embedfleet.coordinator.planning.survey", "embedfleet.worker.planning.passes"
MOST_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The flags of a plan, beside the spec."""

    out: Path | Address | None = None
    """A run directory whose rates count, and whose files are no part of the source."""
    devices: str | None = None
    gpus: Gpus | None = None
    shards: int = 1
    price: float | None = None
    measure: float | None = None
    """Seconds to embed a sample; None: no sample is embedded."""
    options: RunOptions = DEFAULTS


def planned_out(out: str | PathLike[str], flag: str) -> Path | Address:
    """The run directory that `out` names. UsageError or RunDirectoryError, naming `flag`, for one that no run can have."""
    if not is_address(out):
        return expand_path(out, flag).absolute()
    address = parse_address(out, flag, RunDirectoryError)
    check_store(address, flag)
    return address


def check_request(request: PlanRequest) -> None:
    """Raise UsageError for flags that do not go together, or with values that cannot be."""
    if request.gpus is not None and request.devices is not None:
        raise UsageError("--gpus and --devices: give one of them, GPUs that need not be here or devices of this host")
    if request.gpus is not None and request.measure is not None:
        raise UsageError(
            "--measure embeds a sample on this host's devices, and --gpus names others: leave out one of them"
        )
    check_count(request.shards, f"--shards {request.shards}")
    for flag, value, most in (("--price", request.price, 1e9), ("--measure", request.measure, MOST_SECONDS)):
        if value is not None and not (math.isfinite(value) and 0 < value <= most):
            raise UsageError(f"{flag} {value:g}: give a number above 0, at most {most:,.0f}")


def plan_run(spec: RunSpec, request: PlanRequest, say: Callable[[str], None]) -> Plan:
    """Plan the run of `spec`. `say` takes lines for people while a sample is embedded.

    Raises the errors with which the run itself would refuse the source, a device or a model.
    """
    if spec.source == STDIN:
        raise UsageError("SOURCE -: a plan reads the source before the run does; write the stream to a file first")
    check_request(request)
    with _earlier_records(request.out) as earlier, tempfile.TemporaryDirectory(prefix="embedfleet-plan-") as made:
        survey = ask(SURVEY, _survey_request(spec, request, made), Survey)
        devices = named_gpus(request.gpus) if request.gpus is not None else devices_here(survey.devices)
        passes = PassesRequest(spec=spec, folder=made, segment_rows=survey.segment_rows, matrix_rate=not devices.is_gpu)
        answer = ask(PASSES, passes, PassesAnswer)
        calibration = None
        if request.measure is not None:
            settings = Settings(request.devices, request.options, request.measure)
            calibration = calibrate(spec, survey, Path(made), settings, say)
        return make_plan(_inputs(spec, request, earlier, survey, answer, devices, calibration))


def _earlier_records(out: Path | Address | None) -> AbstractContextManager[Path | None]:
    """The folder with the spec and the statistics of an earlier run: `out` itself or, of one in object storage, copies."""
    if not isinstance(out, Address):
        return nullcontext(out)
    layout = RunLayout(Path())
    return copied_records(out, "--out", (layout.spec.name, layout.stats.name))


def _survey_request(spec: RunSpec, request: PlanRequest, folder: str) -> SurveyRequest:
    return SurveyRequest(
        spec=spec,
        folder=folder,
        out=str(request.out) if isinstance(request.out, Path) else "",
        devices=request.devices,
        gpus=request.gpus is not None,
    )


def _inputs(
    spec: RunSpec,
    request: PlanRequest,
    earlier: Path | None,
    survey: Survey,
    answer: PassesAnswer,
    devices: PlannedDevices,
    calibration: Calibration | None,
) -> Inputs:
    measured = calibration.measured if calibration is not None else None
    if measured is None and earlier is not None:
        measured = earlier_run(earlier, spec.passes, devices)
    if calibration is not None:
        answer = _with_sizes(answer, calibration)
    busy = tuple(f"{one.name}: {one.cores_note}" for one in survey.devices if one.cores_note)
    return Inputs(spec, survey, answer, devices, measured, request.shards, request.price, busy)


def _with_sizes(answer: PassesAnswer, calibration: Calibration) -> PassesAnswer:
    """The figures with the sizes of the vectors that were computed, where they were assumed."""
    passes = tuple(
        msgspec.structs.replace(
            one, vectors=tuple(_measured(each, calibration.sizes.get(each.vector)) for each in one.vectors)
        )
        for one in answer.passes
    )
    return msgspec.structs.replace(answer, passes=passes)


def _measured(one: VectorFigures, size: MeasuredSize | None) -> VectorFigures:
    if size is None or not size.rows or (one.form == "dense" and one.row_bytes) or one.basis == "counted":
        return one
    row_bytes = max(size.n_bytes - one.segment_bytes * size.segments, 0.0) / size.rows
    return msgspec.structs.replace(one, row_bytes=row_bytes, basis="measured", note="")


def plan(
    source: str | PathLike[str],
    *,
    dense: str | Sequence[str] = (),
    sparse: str | Sequence[str] = (),
    multivector: str | Sequence[str] = (),
    heads: str | Sequence[str] = (),
    out: str | PathLike[str] | None = None,
    devices: str | None = None,
    gpus: str | None = None,
    shards: int = 1,
    price: float | None = None,
    measure: float | bool = False,
    **options: Any,
) -> Plan:
    """Plan a run of `source` before it begins: rows, tokens, bytes, memory, time and cost, as `embedfleet plan` shows them.

    `options` are the flags of `embedfleet run` that become part of its spec, by name, as for `Embedder`. `gpus` is for example
    `8xH100`; without it, the plan is for the `devices` of this host. `measure` embeds a sample for about so many seconds (True:
    15). `out` is a run directory, whose rates count if it has a run. Raises an EmbedfleetError that names the remedy.
    """
    source = str(parse_address(source, "source", SourceError) if is_address(source) else expand_path(source, "source"))
    named = {"dense": dense, "sparse": sparse, "multivector": multivector, "heads": heads}
    models = {name: names_in(name, one) for name, one in named.items()}
    if not any(models.values()):
        models["dense"], models["sparse"] = default_models(source)
    folder = planned_out(out, "out") if out is not None else None
    if folder is None and not is_address(source):
        folder = default_out(source)
    if isinstance(folder, Address):  # as for a run there
        options.setdefault("index", "none")
    spec = build_spec(source, **models, out=folder if isinstance(folder, Path) else None, **spec_options(options))
    asked = checked("measure", measure, float | bool)
    seconds = (SECONDS if asked else None) if isinstance(asked, bool) else float(asked)
    request = PlanRequest(
        out=folder,
        devices=checked("devices", devices, str | None),
        gpus=parse_gpus(gpus) if gpus is not None else None,
        shards=checked("shards", shards, int),
        price=checked("price", price, float | None),
        measure=seconds,
    )
    return plan_run(spec, request, lambda _line: None)
