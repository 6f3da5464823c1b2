"""`stats.json`: what a session says of itself, and of each pass what all sessions that computed batches for it came to.

A resume computes what is missing, often next to nothing: its own figures would say that a pass cost nothing and ran nowhere.
So counts and seconds are added up, histograms of batches are joined bucket by bucket, and rates follow from the sums. What
cannot be added (dtype, placement) is the latest. Of a session that was killed there are no figures: the rows that it committed
are counted as `untimed`, so that nobody takes the sums for more than they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
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
    """`now`, what the session says, with the passes of all sessions; `rows` are the committed ones by pass.

    The rest of the file is of this session alone; samples of a pass's devices are of the latest that computed it.
    """
    earlier = before.by_vector()
    # An exporter that ended while it closed has a successor, which is told the same figures again.
    told = bool(now.run) and before.run == now.run
    passes: list[PassStats] = []
    for one in now.passes:
        found = earlier.get(one.vector)
        total = found if found is not None and told else _total(found, one, now.run)
        passes.append(replace(total, chunks=rows.get(one.vector, total.chunks)))
    devices = before.processing_stats.passes | now.processing_stats.passes
    samples = ProcessingStats(host=now.processing_stats.host, passes=devices)
    return RunStats(run=now.run, seconds=now.seconds, passes=tuple(passes), processing_stats=samples)


def add_truncation(stats: RunStats, found: Mapping[str, Truncation]) -> RunStats:
    """`stats` with what was cut, by pass."""
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
        return mine  # percentiles that nobody can join
    return replace(_sum(before, mine), sessions=before.sessions + 1, session=run, untimed=untimed)


def _sum(before: PassStats, now: PassStats) -> PassStats:
    found = before.statistics + now.statistics
    found.seconds = round(found.seconds, 3)
    record = replace(describe_pass(now.vector, now.model, now.chunks, 0, found), earlier=UNSET)
    if not found.seconds:  # all of them were below a millisecond, and the latest one's rates are as good as any
        rates = (now.chunks_per_second, now.tokens_per_second)
        record = replace(record, chunks_per_second=rates[0], tokens_per_second=rates[1])
    return replace(before, **asdict(record))
