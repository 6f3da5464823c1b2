"""`stats.json`: what a session says of itself, and of each pass what all sessions that computed batches for it came to.

A resume computes what is missing, often next to nothing: its own figures would say that a pass cost nothing and ran nowhere.
So counts and seconds are added up, histograms of batches are joined bucket by bucket, and rates follow from the sums. What
cannot be added (dtype, placement) is the latest. Of a session that was killed there are no figures: the rows that it committed
are counted as `untimed`, so that nobody takes the sums for more than they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ...protocol.statistics.histogram import BATCH_DIGITS, LogHistogram

JsonObject = dict[str, Any]

SUMS = ("computed", "seconds", "batches", "tokens", "padded", "row_errors", "mitigations")
SUMS_BY_NAME = ("split", "rows_by_device")
MOST = ("peak_bytes", "gpu_peak_bytes", "rotation_gap_seconds")


def read_stats(path: Path) -> JsonObject:
    """The file as it stands; empty where there is none that can be read. Figures are no reason to refuse a run."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def merge_stats(before: Mapping[str, Any], now: Mapping[str, Any], rows: Mapping[str, int]) -> JsonObject:
    """`now`, what the session says, with the passes of all sessions; `rows` are the committed ones by pass.

    A pass gains `chunks` (those rows), `sessions` (how many computed a batch of it), `session` (the latest of them, as in
    `run`) and `untimed` (rows of those that left no figures). The rest of the file is of this session alone; samples of a
    pass's devices are of the latest that computed it.
    Where `before` is damaged the figures are of this session alone: a run is not to fail over them.
    """
    try:
        return _with_earlier(before, now, rows)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return _with_earlier({}, now, rows)


def add_figures(stats: JsonObject, vector: str, figures: Mapping[str, Any]) -> None:
    """Add figures to the pass, if `stats` have it."""
    for one in stats.get("passes", []):
        if one["vector"] == vector:
            one.update(figures)


def _with_earlier(before: Mapping[str, Any], now: Mapping[str, Any], rows: Mapping[str, int]) -> JsonObject:
    run = now.get("run", "")
    earlier = {one["vector"]: one for one in before.get("passes", [])}
    # An exporter that ended while it closed has a successor, which is told the same figures again.
    told = bool(run) and before.get("run") == run
    passes: list[JsonObject] = []
    for one in now.get("passes", []):
        vector: str = one["vector"]
        mine = one | ({"sessions": 1, "session": run} if one["batches"] else {"sessions": 0, "session": ""})
        found = earlier.get(vector)
        stood: int = mine.pop("earlier", 0)
        if found is None:
            merged = mine | {"untimed": stood}
        elif told:
            merged = found
        else:
            merged = _merged(found, mine)
            dropped = merged is mine and bool(found.get("batches"))
            killed = max(stood - found["chunks"], 0)  # committed since the last session that left figures
            merged = merged | {"untimed": stood if dropped else found.get("untimed", 0) + killed}
        passes.append(merged | {"chunks": rows.get(vector, merged.get("chunks", 0))})
    samples: JsonObject = now.get("processing_stats", {})
    devices = before.get("processing_stats", {}).get("passes", {}) | samples.get("passes", {})
    more = {"processing_stats": samples | {"passes": devices}} if samples else {}
    return {**now, **({"passes": passes} if passes else {}), **more}


def _merged(before: JsonObject, now: JsonObject) -> JsonObject:
    if not now["batches"]:
        return before
    if not before.get("batches") or "histograms" not in before:
        return now  # nothing to add, or percentiles that nobody can join
    found = before | now
    found |= {name: round(before[name] + now[name], 3) for name in SUMS}
    found |= {name: _added(before[name], now[name]) for name in SUMS_BY_NAME}
    found |= {name: max((one[name] for one in (before, now) if one[name] is not None), default=None) for name in MOST}
    found["sessions"] = before["sessions"] + now["sessions"]
    found["device"] = ", ".join(found["rows_by_device"])
    if found["seconds"]:  # else all of them were below a millisecond, and the latest one's rates are as good as any
        found["chunks_per_second"] = round(found["computed"] / found["seconds"], 2)
        found["tokens_per_second"] = round(found["tokens"] / found["seconds"], 2)
    found["padding"] = round(1 - found["tokens"] / found["padded"], 4) if found["padded"] else 0.0
    found["histograms"] = {}
    for name, digits in BATCH_DIGITS.items():
        histogram = LogHistogram.of(before["histograms"][name]).join(LogHistogram.of(now["histograms"][name]))
        found["histograms"][name], found[name] = histogram.record(), histogram.summary(digits)
    return found


def _added(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    names = dict.fromkeys([*before, *now])
    return {name: round(before.get(name, 0) + now.get(name, 0), 3) for name in names}
