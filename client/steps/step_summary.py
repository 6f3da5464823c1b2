"""Stage: one row of the table at the end of a command: the rows, time, memory and coverage of one step."""

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
from ..output.formatting import human_bytes, percent, pluralize
from ..output.truncation_lines import cut_cell


@dataclass(frozen=True, slots=True)
class Stage:
    """The texts of a stage's cells, by the names in `run_table.COLUMNS`. Unknown figures have no cell."""

    name: str
    cells: Mapping[str, str]
    unit: str = "rows"
    """What the cell `rows` counts."""


def pass_stages(ending: RunEnded, about: str = "", unit: str = "rows", stats: RunStats | None = None) -> list[Stage]:
    """The passes of a run that has ended; `about` is put before their names. `stats`, from stats.json, adds the figures of all
    sessions if there were earlier ones."""
    recorded = stats.by_vector() if stats is not None else {}
    return [
        Stage(
            about + pass_.vector,
            _cells(pass_, pass_.batch_seconds) | _all_sessions(pass_, recorded.get(pass_.vector)),
            unit,
        )
        for pass_ in ending.passes
    ]


def _all_sessions(pass_: PassSummary, recorded: PassStats | None) -> dict[str, str]:
    """Rows, seconds and rate of all recorded sessions together, and the rows of sessions that were killed; empty in the first
    session."""
    if not pass_.earlier or recorded is None:
        return {}
    rows = recorded.untimed
    killed = f"{rows:,} by sessions that were killed, in a time that is not known" if rows else ""
    if recorded.sessions < 1 or not recorded.seconds:
        return {"all": killed} if killed else {}
    rows, seconds, sessions = recorded.computed, recorded.seconds, recorded.sessions
    rate = recorded.chunks_per_second  # that of unrounded seconds, where there was one session
    timed = f"{rows:,} in {seconds:,.1f} s ({rate:,.1f}/s) by {pluralize(sessions, 'session')}"
    return {"all": f"{timed}; {killed}" if killed else timed}


def ensemble_stages(spec: RunSpec, out: RunLayout) -> list[Stage]:
    """Every ensemble, counted from its committed segments. No worker computes it, so it has no batches."""
    if not spec.ensembles:
        return []
    from ...protocol.run_directory.segment_info import ChunkSegmentInfo
    from ...protocol.run_directory.tables import read_info  # late, and below: it needs Arrow, and few runs need it

    total = sum(read_info(out.chunk_segment(one), ChunkSegmentInfo).rows for one in segments_in(out.chunks))
    return [Stage(one.vector, _counted(out, one.vector, total)) for one in spec.ensembles]


def candidate_stage(record: CandidatesRecord, peak: int = 0) -> Stage:
    """The candidates and their fusion, from `candidates.json`. `peak`: peak memory of the process in bytes, 0 if unknown."""
    queries = record.queries
    cells = {"rows": f"{queries:,}", "seconds": f"{record.seconds:,.1f}"} | process_cells(peak)
    cells |= _latency(record.query_seconds)
    if queries:
        cells["coverage"] = percent((queries - record.without) / queries, 2)
    return Stage("candidates, fusion", cells, "queries")


def export_stage(rows: int, seconds: float, peak: int) -> Stage:
    """The export of a run of `rows`. `peak`: peak memory of the process in bytes, 0 if unknown."""
    cells = {"rows": f"{rows:,}", "seconds": f"{seconds:,.1f}"}
    if seconds:
        cells["rate"] = f"{rows / seconds:,.1f}"
    return Stage("export", cells | process_cells(peak))


def process_cells(peak: int) -> dict[str, str]:
    """The cell with the peak memory of a process in bytes; none if it is 0, not known."""
    return {"memory": human_bytes(peak)} if peak else {}


def _latency(seconds: Mapping[str, float]) -> dict[str, str]:
    known = {"p50", "p95"} <= seconds.keys()
    return {"latency": f"{_short(seconds['p50'], 3)} / {_short(seconds['p95'], 3)}"} if known else {}


def _cells(pass_: PassSummary, latency: Mapping[str, float]) -> dict[str, str]:
    # Rows, seconds and rate are of this session; `committed` is of all sessions.
    cells = {"rows": f"{pass_.computed if pass_.computed or pass_.earlier else pass_.chunks:,}"}
    if pass_.earlier or pass_.uncommitted:
        cells["committed"] = f"{pass_.chunks:,}"
    if pass_.computed:
        cells["seconds"] = f"{pass_.seconds:,.1f}"
        cells["rate"] = f"{pass_.chunks_per_second:,.1f}"
        cells["tokens"] = f"{pass_.tokens_per_second:,.0f}"
        cells["padding"] = f"{pass_.padding:.1%}"
    if pass_.batches:
        cells["batch"] = _short(pass_.computed / pass_.batches, 1)
    cells |= _latency(latency) | _memory(pass_)
    if pass_.coverage is not None:
        cells["coverage"] = percent(pass_.coverage, 2)
    if pass_.truncation is not None:
        cells["cut"] = cut_cell(pass_.truncation)
    if pass_.weights:
        cells["weights"] = pass_.weights
    if (
        placed := pass_.placement
        if pass_.dtype in pass_.placement
        else ", ".join(filter(None, (pass_.dtype, pass_.placement)))
    ):
        cells["placed"] = placed
    if pass_.device:
        cells["device"] = pass_.device
    return cells


def _memory(pass_: PassSummary) -> dict[str, str]:
    peaks = {"memory": pass_.peak_bytes, "gpu": pass_.gpu_peak_bytes}
    return {name: human_bytes(peak) for name, peak in peaks.items() if peak}


def _short(value: float, digits: int) -> str:
    """A number with fewer decimals the larger it is."""
    return f"{value:,.{0 if value >= 100 else min(digits, 1) if value >= 10 else digits}f}"


def _counted(out: RunLayout, vector: str, total: int) -> dict[str, str]:
    """The cells of a vector, from its segments. Coverage is the share of all `total` rows of the run."""
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
