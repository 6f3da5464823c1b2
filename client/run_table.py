"""The end of a run as a table, a column a pass: on a terminal drawn by rich, elsewhere a plain line each. Standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..protocol.control_messages import PassSummary, RunEnded
from ..protocol.layout import RunLayout
from .run_files import read_object
from .tables import size_of

HEADINGS = {
    "rows": "rows",
    "seconds": "s",
    "rate": "rows/s",
    "tokens": "tokens/s",
    "batch": "batch",
    "latency": "p50 / p95",
    "peak": "memory",
    "gpu": "GPU",
    "padding": "padding",
    "coverage": "coverage",
    "weights": "weights",
    "placed": "dtype, placement",
    "device": "device",
}
"""Rows: the key of a cell, and what people read before it. One that no pass fills is left out."""


def show_table(ending: RunEnded, out: Path, say: Callable[[str], None]) -> None:
    """What each pass of the run came to; lines for people go to `say`."""
    measured = _latencies(out, ending.run)
    cells = {one.vector: _cells(one, measured.get(one.vector, {})) for one in ending.passes}
    if not sys.stderr.isatty():
        for vector, row in cells.items():
            say(f"{vector}: {', '.join(_plain(name, text) for name, text in row.items() if text)}")
        return
    table = Table("", *cells)
    for name, heading in HEADINGS.items():
        row = [cell[name] for cell in cells.values()]
        if any(row):
            table.add_row(heading, *map(escape, row))
    Console(stderr=True, highlight=False).print(table)


def _cells(one: PassSummary, latency: Mapping[str, float]) -> dict[str, str]:
    """Each cell as text; empty where there is nothing to tell."""
    worked = one.computed > 0
    return {
        "rows": f"{one.chunks:,}",
        "seconds": f"{one.seconds:,.1f}" if worked else "",
        "rate": f"{one.chunks_per_second:,.1f}" if worked else "",
        "tokens": f"{one.tokens_per_second:,.0f}" if worked else "",
        "batch": f"{one.computed / one.batches:,.1f}" if one.batches else "",
        "latency": " / ".join(f"{latency[name]:.3f} s" for name in ("p50", "p95") if name in latency),
        "peak": size_of(one.peak_bytes) if one.peak_bytes else "",
        "gpu": size_of(one.gpu_peak_bytes) if one.gpu_peak_bytes else "",
        "padding": f"{one.padding:.1%}" if worked else "",
        "coverage": f"{one.coverage:.2%}" if one.coverage is not None else "",
        "weights": one.weights,
        "placed": _placed(one),
        "device": one.device,
    }


def _placed(one: PassSummary) -> str:
    return one.placement if one.dtype in one.placement else ", ".join(filter(None, (one.dtype, one.placement)))


def _plain(name: str, text: str) -> str:
    match name:
        case "placed" | "device":
            return f"on {text}"
        case "seconds":
            return f"{text} s"
        case "rows" | "rate" | "tokens":
            return f"{text} {HEADINGS[name]}"
        case _:
            return f"{HEADINGS[name]} {text}"


def _latencies(out: Path, run: str) -> dict[str, dict[str, float]]:
    """Seconds of a batch by percentile and vector, where the run's stats have them."""
    stats = read_object(RunLayout(out).stats)
    if stats is None or stats.get("run") != run:
        return {}
    passes: list[dict[str, Any]] = stats.get("passes", [])
    return {one["vector"]: one["batch_seconds"] for one in passes if isinstance(one.get("batch_seconds"), dict)}
