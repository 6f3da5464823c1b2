"""Turn the survey of a source, the figures of its passes and the rates into a plan. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol.planning.model_figures import Basis, PassesAnswer, PassFigures, VectorFigures, weakest
from ...protocol.planning.survey import Survey
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec, RunSpec
from .device_choice import PlannedDevices
from .memory import dtype_of, memory_of
from .plan import Figure, Plan, PlannedPass, PlannedVector
from .rates import MeasuredRun, rate_of

CONFIDENCE = 1.96
"""Standard errors within which 95 of 100 samples stay."""
ROWS_PER_SECOND = 25_000.0
"""What one coordinator and one exporter take, measured with a fake model on two cores; more on faster ones."""
COLLECTION = 2.6
"""Bytes of the collection by byte of the segments, measured once with 384 dimensions in float32; assumed of others."""
START_SECONDS = 10.0
"""From the command to the first batch of a real model, where no run was measured."""
NEXT_SHARD_SECONDS = 1.1
"""What each further shard adds to one command that runs them all and merges them: its workers stay. Measured by
`benchmarks/shards.py` with 16 shards of all-MiniLM-L6-v2 on two cores (`benchmarks/results/shards-2-cores.json`)."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All facts that a plan is computed from."""

    spec: RunSpec
    survey: Survey
    answer: PassesAnswer
    devices: PlannedDevices
    measured: MeasuredRun | None = None
    shards: int = 1
    price: float | None = None
    """The price of one hour of all devices together."""
    notes: tuple[str, ...] = ()


def make_plan(inputs: Inputs) -> Plan:
    """The plan."""
    survey, spec = inputs.survey, inputs.spec
    rows = _rows(survey)
    passes = tuple(
        _pass(one, figures, rows, inputs) for one, figures in zip(spec.passes, inputs.answer.passes, strict=True)
    )
    ensembles = tuple(_vector(one, rows, survey.segments) for one in inputs.answer.ensembles)
    chunk_bytes = Figure(value=survey.chunk_bytes, basis="counted" if survey.exact else "sampled")
    vectors = [*(one for each in passes for one in each.vectors), *ensembles]
    bases: list[Basis] = [chunk_bytes.basis, *(one.bytes.basis for one in vectors)]
    total = Figure(value=chunk_bytes.value + sum(one.bytes.value for one in vectors), basis=weakest(*bases))
    start, busy = _start(passes, inputs), _busy(passes, rows, inputs)
    seconds, shard_seconds = _seconds(start, busy, inputs.shards)
    return Plan(
        source=spec.source,
        files=survey.files,
        source_bytes=survey.source_bytes,
        rows=rows,
        rejected=_share(survey, survey.rejected),
        duplicates=_duplicates(survey),
        text_bytes=Figure(value=survey.text_bytes, basis=rows.basis),
        segments=Figure(value=survey.segments, basis="counted" if survey.exact else "sampled"),
        chunk_bytes=chunk_bytes,
        passes=passes,
        ensembles=ensembles,
        bytes=total,
        collection_bytes=Figure(value=COLLECTION * total.value, basis="assumed") if spec.index == "edge" else None,
        devices=inputs.devices.names,
        start_seconds=start,
        seconds=seconds,
        shards=inputs.shards,
        shard_seconds=shard_seconds,
        price_per_hour=inputs.price,
        cost=_cost(seconds, inputs.price),
        notes=(*survey.notes, *inputs.notes, *_notes(passes, rows, inputs)),
    )


def _rows(survey: Survey) -> Figure:
    if survey.exact:
        return Figure(value=survey.rows, basis="counted")
    kept = min(survey.sampled_rows / max(survey.looked_at, 1), 1.0)
    error = CONFIDENCE * math.sqrt(kept * (1 - kept) / max(survey.looked_at, 1)) / max(kept, 1e-9)
    note = f"{survey.records:,} records are counted; how many become rows is sampled"
    return Figure(value=survey.rows, basis="sampled", error=error, note=note)


def _share(survey: Survey, count: int) -> Figure:
    return Figure(value=count, basis="counted" if survey.exact else "sampled")


def _duplicates(survey: Survey) -> Figure:
    if survey.rare_duplicates:
        return Figure(value=0, basis="assumed", note="the sample has some, too few to estimate how many there are")
    return _share(survey, survey.duplicates)


def _pass(spec: PassSpec, figures: PassFigures, rows: Figure, inputs: Inputs) -> PlannedPass:
    tokens = _tokens(figures, rows)
    rate = rate_of(spec, figures, inputs.devices, inputs.measured, inputs.answer.matrix_rate)
    seconds = None
    if rate is not None and rate.value > 0:
        seconds = Figure(value=tokens.value / rate.value, basis=weakest(tokens.basis, rate.basis), note=rate.note)
    facts = figures.model
    known = figures.truncated is not None and figures.tokens_cut is not None
    every = figures.tokens + (figures.tokens_cut or 0)
    basis: Basis = "counted" if _is_counted(figures, rows) else figures.tokens_basis
    reasons = [facts.note, figures.note, *(one.note for one in figures.vectors)]
    reasons += [f"rate: {rate.note}"] if rate is not None and rate.note else []
    notes = tuple(dict.fromkeys(filter(None, reasons)))
    return PlannedPass(
        vector=spec.vector,
        model=spec.model,
        kind=spec.kind,
        dtype=dtype_of(spec, inputs.devices),
        max_tokens=facts.max_tokens,
        parameters=Figure(value=facts.parameters, basis=facts.basis) if facts.parameters else None,
        tokens=tokens,
        truncated_share=Figure(value=(figures.truncated or 0) / max(figures.rows, 1), basis=basis) if known else None,
        tokens_cut_share=Figure(value=(figures.tokens_cut or 0) / max(every, 1), basis=basis) if known else None,
        memory=memory_of(spec, facts, inputs.devices),
        tokens_per_second=rate,
        seconds=seconds,
        cost=_cost(seconds, inputs.price),
        vectors=tuple(_vector(one, rows, inputs.survey.segments) for one in figures.vectors),
        notes=notes,
    )


def _is_counted(figures: PassFigures, rows: Figure) -> bool:
    """Whether the tokens of every row were counted."""
    return rows.basis == "counted" and figures.rows == rows.value and figures.tokens_basis == "sampled"


def _tokens(figures: PassFigures, rows: Figure) -> Figure:
    """The tokens of all rows, from those of the sample."""
    if _is_counted(figures, rows):
        return Figure(value=figures.tokens, basis="counted")
    count = max(figures.rows, 1)
    mean = figures.tokens / count
    spread = math.sqrt(max(figures.squares / count - mean**2, 0.0))
    error = math.hypot(CONFIDENCE * spread / math.sqrt(count) / max(mean, 1e-9), rows.error)
    basis = weakest(figures.tokens_basis, rows.basis)
    return Figure(value=mean * rows.value, basis=basis, error=error if basis == "sampled" else 0.0, note=figures.note)


def _vector(one: VectorFigures, rows: Figure, segments: int) -> PlannedVector:
    total = one.row_bytes * rows.value + one.segment_bytes * segments
    basis = weakest(one.basis, "sampled" if rows.basis == "sampled" else one.basis)
    if not one.row_bytes:
        basis = "assumed"
    each = Figure(value=total / max(rows.value, 1), basis=basis, note=one.note)
    size = Figure(value=total, basis=basis, error=rows.error, note=one.note)
    return PlannedVector(
        vector=one.vector, form=one.form, dim=one.dim, storage=one.storage, bytes_a_row=each, bytes=size
    )


def _seconds(start: Figure | None, busy: Figure | None, shards: int) -> tuple[Figure | None, Figure | None]:
    """The time of one command, `run --shards N` if there are several shards, whose workers stay from shard to shard; and of one
    shard by a command of its own, `run --shard I/N`, which has a whole start. The latter is None for a run without shards."""
    if start is None or busy is None:
        return None, None
    basis = weakest(start.basis, busy.basis)
    if shards == 1:
        return Figure(value=start.value + busy.value, basis=basis), None
    further = (shards - 1) * min(NEXT_SHARD_SECONDS, start.value)
    seconds = Figure(value=start.value + further + busy.value, basis=weakest("assumed", basis))
    return seconds, Figure(value=start.value + busy.value / shards, basis=basis)


def _busy(passes: Sequence[PlannedPass], rows: Figure, inputs: Inputs) -> Figure | None:
    """The time in which models compute. They run one after the other, each on all devices; what needs no model runs beside
    them."""
    models = [one.seconds for one in passes if one.kind not in CPU_KINDS]
    light = [one.seconds for one in passes if one.kind in CPU_KINDS and one.kind != "metadata"]
    if any(one is None for one in (*models, *light)):
        return None
    known = [one for one in (*models, *light) if one is not None]
    busy = sum(one.value for one in models if one is not None)
    busy = max([busy, *(one.value for one in light if one is not None)])
    measured = inputs.measured is not None and all(one.basis == "measured" or one.basis == "sampled" for one in known)
    if not measured:
        busy = max(busy, rows.value / ROWS_PER_SECOND)
    bases: list[Basis] = [rows.basis, *(one.basis for one in known)]
    return Figure(value=busy, basis=weakest(*bases))


def _start(passes: Sequence[PlannedPass], inputs: Inputs) -> Figure | None:
    measured = inputs.measured
    if measured is not None and measured.other_seconds is not None:
        return Figure(value=measured.other_seconds, basis="measured", note=measured.origin)
    real = sum(one.kind not in CPU_KINDS and not one.model.startswith("fake:") for one in passes)
    return Figure(value=START_SECONDS * real + 2.0, basis="assumed")


def _cost(seconds: Figure | None, price: float | None) -> Figure | None:
    return None if seconds is None or price is None else seconds.times(price / 3_600)


def _notes(passes: Sequence[PlannedPass], rows: Figure, inputs: Inputs) -> list[str]:
    notes = [
        f"{one.vector}: {one.memory.device} has too little memory for it"
        for one in passes
        if one.memory is not None and not one.memory.enough
    ]
    unknown = [one.vector for one in passes if one.seconds is None and one.kind != "metadata"]
    if unknown:
        remedy = "give --measure to embed a sample" if inputs.devices.here else "give --measure on such a machine"
        notes.append(f"no rate is known for {', '.join(unknown)}, so no time either: {remedy}")
    busy = [one.seconds.value for one in passes if one.seconds is not None and one.kind not in CPU_KINDS]
    if inputs.measured is None and busy and sum(busy) < rows.value / ROWS_PER_SECOND:
        notes.append(
            f"the devices would be faster than reading and writing: {ROWS_PER_SECOND:,.0f} rows a second of one machine "
            "are assumed, as measured on two cores; --shards on more machines divide them"
        )
    return notes
