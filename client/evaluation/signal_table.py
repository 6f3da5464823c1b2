"""The table of what each signal adds, the same on the screen and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from ..output.formatting import pluralize
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


def _row(signal: SignalFigures) -> tuple[str, ...]:
    without = "-" if signal.without is None else f"{signal.without:.4f}"
    return (
        signal.name,
        f"{signal.alone:.4f}",
        without,
        _adds(signal),
        _only(signal.first_ten),
        _only(signal.candidates),
        f"{signal.seconds:,.2f}",
    )


def _adds(signal: SignalFigures) -> str:
    if signal.adds is None:
        return "-"
    between = "" if signal.adds.low is None else f" ({signal.adds.low:+.4f} to {signal.adds.high:+.4f})"
    return f"{signal.adds.mean:+.4f}{between}"


def _only(only: OnlyIt) -> str:
    """`25 for 16 queries`."""
    return f"{only.chunks:,} for {pluralize(len(only.queries), 'query', 'queries')}" if only.chunks else "0"
