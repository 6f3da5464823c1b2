"""The table of what each signal adds, the same on the screen and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from ..output.formatting import counted
from .contributions import OnlyIt, SignalFigures
from .signal_sets import TOP

LEGEND = (
    "Alone: the signal by itself. Without it: all other signals, fused. It adds: the fusion of all signals, minus that. "
    "Only it finds: relevant chunks that no other fused signal has among its own first ones."
)


def head(candidates: int) -> tuple[str, ...]:
    """The names of the columns."""
    only = (f"only it finds: first {count:,}" for count in (min(TOP, candidates), candidates))
    return ("signal", "nDCG@10 alone", "without it", "it adds (95% interval)", *only, "seconds")


def rows(signals: Sequence[SignalFigures]) -> list[tuple[str, ...]]:
    """A line for each signal; empty with a single signal."""
    return [_row(one) for one in signals] if len(signals) > 1 else []


def _row(one: SignalFigures) -> tuple[str, ...]:
    without = "-" if one.without is None else f"{one.without:.4f}"
    return (
        one.name,
        f"{one.alone:.4f}",
        without,
        _adds(one),
        _only(one.first_ten),
        _only(one.candidates),
        f"{one.seconds:,.2f}",
    )


def _adds(one: SignalFigures) -> str:
    if one.adds is None:
        return "-"
    between = "" if one.adds.low is None else f" ({one.adds.low:+.4f} to {one.adds.high:+.4f})"
    return f"{one.adds.mean:+.4f}{between}"


def _only(one: OnlyIt) -> str:
    """`25 for 16 queries`."""
    return f"{one.chunks:,} for {counted(len(one.queries), 'query', 'queries')}" if one.chunks else "0"
