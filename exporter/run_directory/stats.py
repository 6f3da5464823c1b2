"""`stats.json`: the figures of the last session, and for each pass the sums over all sessions that computed batches for it.

A resume often computes next to nothing: its own figures would show that a pass cost nothing and ran nowhere. So counts and
seconds are summed, histograms of batches are joined bucket by bucket, and rates follow from the sums. Values that cannot be
summed (dtype, placement) are the latest. A killed session leaves no figures: its committed rows count as `untimed`, so that
the sums are not taken for complete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson
from msgspec import UNSET
from msgspec.structs import asdict, replace

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.run_directory.truncation import Truncation
from ...protocol.statistics.pass_stats import PassStats, SessionPass, describe_pass
from ...protocol.statistics.run_stats import ProcessingStats, RunStats, SessionStats, as_values


def earlier_stats(layout: RunLayout) -> RunStats:
    """The file as it stands; empty where there is none that can be read. Figures are no reason to refuse a run."""
    with contextlib.suppress(RunDirectoryError):
        return read_stats(layout)
    return RunStats()


def merge_stats(before: RunStats, now: SessionStats, rows: Mapping[str, int]) -> RunStats:
    """The session's figures `now`, with the passes of all sessions; `rows` are the committed rows by pass.

    The other fields are of this session alone; samples of a pass's devices are of the latest session that computed it.
    """
    earlier = before.by_vector()
    # If an exporter ended while it closed, its successor gets the same figures again.
    merged = bool(now.run) and before.run == now.run
    passes: list[PassStats] = []
    for one in now.passes:
        known = earlier.get(one.vector)
        total = known if known is not None and merged else _total(known, one, now.run)
        passes.append(replace(total, chunks=rows.get(one.vector, total.chunks)))
    devices = before.processing_stats.passes | now.processing_stats.passes
    samples = ProcessingStats(host=now.processing_stats.host, passes=devices)
    return RunStats(run=now.run, seconds=now.seconds, passes=tuple(passes), processing_stats=samples)


def add_truncation(stats: RunStats, found: Mapping[str, Truncation]) -> RunStats:
    """`stats` with the truncation of each pass."""
    passes = (replace(one, **found[one.vector].record()) if one.vector in found else one for one in stats.passes)
    return replace(stats, passes=tuple(passes))


def write_stats(path: Path, stats: RunStats) -> None:
    """Replace the file."""
    commit_bytes(path, orjson.dumps(as_values(stats), option=orjson.OPT_INDENT_2) + b"\n")


def _total(before: PassStats | None, now: SessionPass, run: str) -> PassStats:
    mine = PassStats.of_session(now, run)
    if before is None:
        return mine
    killed = max(mine.untimed - before.chunks, 0)  # committed since the last session that left figures
    untimed = before.untimed + killed
    if not now.batches:
        return replace(before, untimed=untimed)
    if not before.batches:
        return replace(mine, untimed=untimed)
    if before.histograms is UNSET:
        return mine  # percentiles alone cannot be joined
    return replace(_sum(before, mine), sessions=before.sessions + 1, session=run, untimed=untimed)


def _sum(before: PassStats, now: PassStats) -> PassStats:
    found = before.statistics + now.statistics
    found.seconds = round(found.seconds, 3)
    record = replace(describe_pass(now.vector, now.model, now.chunks, 0, found), earlier=UNSET)
    if not found.seconds:  # all sessions took less than a millisecond: take the latest one's rates
        rates = (now.chunks_per_second, now.tokens_per_second)
        record = replace(record, chunks_per_second=rates[0], tokens_per_second=rates[1])
    return replace(before, **asdict(record))


def join_stats(parts: Iterable[RunStats], rows: Mapping[str, int]) -> RunStats:
    """The figures of several runs over parts of one source as those of one run; `rows` are the committed rows by pass.

    Seconds are sums: those of the devices, however many runs there were at a time. A part without figures counts as untimed.
    """
    joined = RunStats()
    for one in parts:
        passes = {vector: _join(known, one.by_vector().get(vector)) for vector, known in joined.by_vector().items()}
        passes |= {vector: now for vector, now in one.by_vector().items() if vector not in passes}
        devices = {vector: dict(found) for vector, found in joined.processing_stats.passes.items()}
        for vector, found in one.processing_stats.passes.items():
            devices.setdefault(vector, {}).update(found)
        export = joined.export_seconds.keys() | one.export_seconds.keys()
        joined = RunStats(
            seconds=round(joined.seconds + one.seconds, 3),
            passes=tuple(passes.values()),
            processing_stats=ProcessingStats(host=one.processing_stats.host, passes=devices),
            export_seconds={
                name: joined.export_seconds.get(name, 0.0) + one.export_seconds.get(name, 0.0) for name in export
            },
        )
    return replace(joined, passes=tuple(replace(one, chunks=rows.get(one.vector, one.chunks)) for one in joined.passes))


def _join(before: PassStats, now: PassStats | None) -> PassStats:
    if now is None:
        return before
    untimed = before.untimed + now.untimed
    if not now.batches:
        return replace(before, untimed=untimed)
    if not before.batches:
        return replace(now, untimed=untimed)
    if UNSET in (before.histograms, now.histograms):
        return replace(now, untimed=untimed + before.computed)  # percentiles alone cannot be joined
    sessions = before.sessions + now.sessions
    return replace(_sum(before, now), sessions=sessions, session=now.session, untimed=untimed)
