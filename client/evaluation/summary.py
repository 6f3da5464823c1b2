"""An evaluation in words: what reranking changes, and which signals to fuse."""

from __future__ import annotations

from collections.abc import Sequence

from ..output.formatting import counted
from .contributions import Contributions
from .paired import LEAST_QUERIES, Difference
from .ranking_costs import Cost
from .recommendation import LEAST_GAIN, Against, Recommendation, SetFigures


def verdict(
    parts: Contributions, queries: int, fused: SetFigures, reranked: tuple[Difference, Cost] | None = None
) -> str:
    """Describe an evaluation. The recommendation comes last, and ends with the flag to type.

    `fused` are the signals of the run's own ranking; `reranked` is the reranker's difference to it, and its cost.
    """
    said: list[str] = []
    if reranked is not None:
        said.append(_reranker(*reranked))
    if held := [one.name for one in parts.signals if one.name not in parts.fusion.signals]:
        said.append(f"Not fused, since another signal contains it: {_listed(held)}.")
    found = parts.recommendation
    if found is None:
        said += _nothing(parts, queries)
    else:
        said += _recommended(found, queries, _ran(parts, fused), fused.signals)
    return " ".join(said)


def interval(one: Difference) -> str:
    """`95% interval 0.0040 to 0.0580`."""
    if one.low is None or one.high is None:
        return "too few queries for an interval"
    return f"95% interval {one.low:.4f} to {one.high:.4f}"


def _ran(parts: Contributions, fused: SetFigures) -> str:
    """The signals that the run fused. For the same signals its figure may differ from the report's: if an ensemble cannot
    encode a query, the run fuses the ensemble's members instead."""
    differs = set(fused.signals) == set(parts.fusion.signals) and abs(fused.ndcg - parts.fusion.ndcg) >= 0.00005
    instead = "; members in place of an ensemble that could not encode a query" if differs else ""
    return f"This run fused {_listed(fused.signals)} ({fused.ndcg:.4f}{instead})."


def _nothing(parts: Contributions, queries: int) -> list[str]:
    if len(parts.signals) == 1:
        (only,) = parts.signals
        return [f"There is one signal, {only.name} ({only.alone:.4f} at nDCG@10): nothing to choose from."]
    if queries >= LEAST_QUERIES:
        return [
            f"No signal has a relevant chunk among its first ten, for any of the {queries:,} judged queries: there is "
            "nothing to recommend."
        ]
    return [
        f"{counted(queries, 'judged query is', 'judged queries are')} too few to recommend signals: "
        f"give {LEAST_QUERIES} or more."
    ]


def _recommended(found: Recommendation, queries: int, ran: str, signals: Sequence[str]) -> list[str]:
    chosen = found.chosen
    several = len(chosen.signals) > 1
    said = [f"Recommended: {_listed(chosen.signals)}{', fused' if several else ' alone'} ({_figures(chosen)})."]
    if found.single is not None:
        said.append(_better("the best single signal", found.single))
    if found.simpler is not None:
        said.append(_better("the next simpler choice", found.simpler))
    if found.larger is not None:
        said.append(_larger(found.larger, found.sets, queries))
    if set(signals) != set(chosen.signals):
        said.append(ran)
    tried = f"all {found.sets:,}" if found.exhaustive else f"{found.sets:,}"
    said.append(f"It was chosen from {tried} sets of signals by these same queries: on others, expect a little less.")
    return [*said, f"In `embedfleet search` and `run`: {found.flag}"]


def _better(what: str, found: Against) -> str:
    one, other = found.difference, found.other
    return (
        f"That is {one.mean:.4f} better than {what}, {_listed(other.signals)} ({_figures(other)}): {_spread(one)}; "
        f"at Recall@10 {_signed(found.recall)}."
    )


def _larger(found: Against, sets: int, queries: int) -> str:
    """Why the best of the larger sets is not recommended."""
    other, more = found.other, found.difference.reversed()
    name = f"The best larger set, {_listed(other.signals)} ({_figures(other)}),"
    if more.mean <= 0:
        return f"{name} is not better: {_signed(more)}."
    if more.mean < LEAST_GAIN:
        return f"{name} is {more.mean:.4f} better; below {LEAST_GAIN} is not worth another signal: {_spread(more)}."
    if more.low is None or more.low <= 0:
        return (
            f"{name} is {more.mean:.4f} better on these queries, but {counted(queries, 'query', 'queries')} cannot show "
            f"that it is better on others: {_spread(more)}; at Recall@10 {_signed(found.recall.reversed())}. "
            "More judged queries may show it."
        )
    return f"{name} is {more.mean:.4f} better, which is within chance for the best of {sets} sets: {_spread(more)}."


def _reranker(change: Difference, cost: Cost) -> str:
    price = _seconds(cost.seconds)
    if change.low is not None and change.low > 0:
        return f"Reranking adds {change.mean:.4f} to the fused order, for {price}: {_spread(change)}."
    if change.high is not None and change.high < 0:
        return f"Reranking makes the fused order worse by {-change.mean:.4f}, for {price}: {_spread(change)}."
    return f"Reranking ({price}) changes nDCG@10 by {_signed(change)}: no gain is shown."


def _signed(one: Difference) -> str:
    return f"{one.mean:+.4f}, {_spread(one)}"


def _spread(one: Difference) -> str:
    return f"{interval(one)}, better on {counted(one.better, 'query', 'queries')}, worse on {one.worse:,}"


def _figures(one: SetFigures) -> str:
    return f"nDCG@10 {one.ndcg:.4f}, {_seconds(one.seconds)}"


def _listed(names: Sequence[str]) -> str:
    return " + ".join(names)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:.3f} s"
