"""Stage: one step of a command as people see it at the end: what it did, how long that took, what it held, what it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.candidates import CandidatesRecord
from ...protocol.run_directory.truncation import segment_truncation, sum_truncations
from ...protocol.spec.run_spec import RunSpec
from ...protocol.statistics.pass_stats import PassStats
from ...protocol.statistics.run_stats import RunStats
from ...protocol.wire.control import PassSummary, RunEnded
from ..output.formatting import counted, percent, size_of
from ..output.truncation_lines import cut_cell


@dataclass(frozen=True, slots=True)
class Stage:
    """`cells` by name, as `run_table.COLUMNS` has them, each a text; what is not known has none."""

    name: str
    cells: Mapping[str, str]
    unit: str = "rows"
    """What the cell `rows` counts."""


def pass_stages(ending: RunEnded, about: str = "", unit: str = "rows", stats: RunStats | None = None) -> list[Stage]:
    """The passes of a run that has ended; `about` is put before their names. `stats`, from stats.json, has the figures of all
    sessions, for a run with earlier ones."""
    recorded = stats.by_vector() if stats is not None else {}
    return [
        Stage(about + one.vector, _cells(one, one.batch_seconds) | _all_sessions(one, recorded.get(one.vector)), unit)
        for one in ending.passes
    ]


def _all_sessions(one: PassSummary, recorded: PassStats | None) -> dict[str, str]:
    """Rows, seconds and rate of all recorded sessions together, and the rows of sessions that were killed; empty in the first
    session."""
    if not one.earlier or recorded is None:
        return {}
    rows = recorded.untimed
    killed = f"{rows:,} by sessions that were killed, in a time that is not known" if rows else ""
    if recorded.sessions < 1 or not recorded.seconds:
        return {"all": killed} if killed else {}
    rows, seconds, sessions = recorded.computed, recorded.seconds, recorded.sessions
    rate = recorded.chunks_per_second  # that of unrounded seconds, where there was one session
    timed = f"{rows:,} in {seconds:,.1f} s ({rate:,.1f}/s) by {counted(sessions, 'session')}"
    return {"all": f"{timed}; {killed}" if killed else timed}


def ensemble_stages(spec: RunSpec, out: RunLayout) -> list[Stage]:
    """Every ensemble, counted from its committed segments: no worker made it, so it has no batches."""
    if not spec.ensembles:
        return []
    from ...protocol.run_directory.segment_info import ChunkSegmentInfo
    from ...protocol.run_directory.tables import read_info  # late, and below: it needs Arrow, and few runs need it

    total = sum(read_info(out.chunk_segment(one), ChunkSegmentInfo).rows for one in segments_in(out.chunks))
    return [Stage(one.vector, _counted(out, one.vector, total)) for one in spec.ensembles]


def candidate_stage(found: CandidatesRecord, peak: int = 0) -> Stage:
    """The signals' candidates and their fusion, by `candidates.json`. `peak`: bytes of its process, where they are known."""
    queries = found.queries
    cells = {"rows": f"{queries:,}", "seconds": f"{found.seconds:,.1f}"} | _process_cells(peak)
    cells |= _latency(found.query_seconds)
    if queries:
        cells["coverage"] = percent((queries - found.without) / queries, 2)
    return Stage("candidates, fusion", cells, "queries")


def export_stage(rows: int, seconds: float, peak: int) -> Stage:
    """The files of a run of `rows`; `peak`: bytes of the process that wrote them."""
    cells = {"rows": f"{rows:,}", "seconds": f"{seconds:,.1f}"}
    if seconds:
        cells["rate"] = f"{rows / seconds:,.1f}"
    return Stage("export", cells | _process_cells(peak))


def _process_cells(peak: int) -> dict[str, str]:
    return {"memory": size_of(peak)} if peak else {}


def _latency(seconds: Mapping[str, float]) -> dict[str, str]:
    known = {"p50", "p95"} <= seconds.keys()
    return {"latency": f"{_short(seconds['p50'], 3)} / {_short(seconds['p95'], 3)}"} if known else {}


def _cells(one: PassSummary, latency: Mapping[str, float]) -> dict[str, str]:
    # Rows, seconds and rate are of this session; `committed` is of all sessions.
    found = {"rows": f"{one.computed if one.computed or one.earlier else one.chunks:,}"}
    if one.earlier or one.uncommitted:
        found["committed"] = f"{one.chunks:,}"
    if one.computed:
        found["seconds"] = f"{one.seconds:,.1f}"
        found["rate"] = f"{one.chunks_per_second:,.1f}"
        found["tokens"] = f"{one.tokens_per_second:,.0f}"
        found["padding"] = f"{one.padding:.1%}"
    if one.batches:
        found["batch"] = _short(one.computed / one.batches, 1)
    found |= _latency(latency) | _memory(one)
    if one.coverage is not None:
        found["coverage"] = percent(one.coverage, 2)
    if one.truncation is not None:
        found["cut"] = cut_cell(one.truncation)
    if one.weights:
        found["weights"] = one.weights
    if placed := one.placement if one.dtype in one.placement else ", ".join(filter(None, (one.dtype, one.placement))):
        found["placed"] = placed
    if one.device:
        found["device"] = one.device
    return found


def _memory(one: PassSummary) -> dict[str, str]:
    peaks = {"memory": one.peak_bytes, "gpu": one.gpu_peak_bytes}
    return {name: size_of(peak) for name, peak in peaks.items() if peak}


def _short(value: float, digits: int) -> str:
    """Fewer digits behind the point where there are many before it."""
    return f"{value:,.{0 if value >= 100 else min(digits, 1) if value >= 10 else digits}f}"


def _counted(out: RunLayout, vector: str, total: int) -> dict[str, str]:
    """As for a pass, coverage is of all the rows of the run, `total`, also where segments are still missing."""
    from ...protocol.run_directory.segment_info import VectorSegmentInfo
    from ...protocol.run_directory.tables import read_info

    segments = segments_in(out.vector_folder(vector))
    paths = [out.vector_segment(vector, one) for one in segments]
    infos = [read_info(path, VectorSegmentInfo) for path in paths]
    rows = sum(info.rows for info in infos)
    bad = sum(info.quarantined for info in infos)
    cut = sum_truncations(segment_truncation(path, info) for path, info in zip(paths, infos, strict=True))
    found = {"rows": f"{rows:,}"} | ({"coverage": percent((rows - bad) / total, 2)} if total else {})
    return found | {"cut": cut_cell(cut)}
