"""An evaluation in words: what reranking changes, and which signals to fuse."""

from __future__ import annotations

from collections.abc import Sequence

from ..output.formatting import pluralize
from .contributions import Contributions
from .paired import LEAST_QUERIES, Difference
from .ranking_costs import Cost
from .recommendation import LEAST_GAIN, Against, Recommendation, SetFigures


def verdict(
    contributions: Contributions, queries: int, fused: SetFigures, reranked: tuple[Difference, Cost] | None = None
) -> str:
    """Describe an evaluation. The recommendation comes last, and ends with the flag to type.

    `fused` are the signals of the run's own ranking; `reranked` is the reranker's difference to it, and its cost.
    """
    sentences: list[str] = []
    if reranked is not None:
        sentences.append(_reranker(*reranked))
    if held := [one.name for one in contributions.signals if one.name not in contributions.fusion.signals]:
        sentences.append(f"Not fused, since another signal contains it: {_listed(held)}.")
    recommendation = contributions.recommendation
    if recommendation is None:
        sentences += _nothing(contributions, queries)
    else:
        sentences += _recommended(recommendation, queries, _ran(contributions, fused), fused.signals)
    return " ".join(sentences)


def interval(difference: Difference) -> str:
    """`95% interval 0.0040 to 0.0580`."""
    if difference.low is None or difference.high is None:
        return "too few queries for an interval"
    return f"95% interval {difference.low:.4f} to {difference.high:.4f}"


def _ran(contributions: Contributions, fused: SetFigures) -> str:
    """A sentence on the signals that the run fused, and their score. It may differ from the report's score for the same
    signals: if an ensemble cannot encode a query, the run fuses the ensemble's members instead."""
    differs = (
        set(fused.signals) == set(contributions.fusion.signals)
        and abs(fused.ndcg - contributions.fusion.ndcg) >= 0.00005
    )
    instead = "; members in place of an ensemble that could not encode a query" if differs else ""
    return f"This run fused {_listed(fused.signals)} ({fused.ndcg:.4f}{instead})."


def _nothing(contributions: Contributions, queries: int) -> list[str]:
    if len(contributions.signals) == 1:
        (only,) = contributions.signals
        return [f"There is one signal, {only.name} ({only.alone:.4f} at nDCG@10): nothing to choose from."]
    if queries >= LEAST_QUERIES:
        return [
            f"No signal has a relevant chunk among its first ten, for any of the {queries:,} judged queries: there is "
            "nothing to recommend."
        ]
    return [
        f"{pluralize(queries, 'judged query is', 'judged queries are')} too few to recommend signals: "
        f"give {LEAST_QUERIES} or more."
    ]


def _recommended(recommendation: Recommendation, queries: int, ran: str, signals: Sequence[str]) -> list[str]:
    chosen = recommendation.chosen
    several = len(chosen.signals) > 1
    sentences = [f"Recommended: {_listed(chosen.signals)}{', fused' if several else ' alone'} ({_figures(chosen)})."]
    if recommendation.single is not None:
        sentences.append(_better("the best single signal", recommendation.single))
    if recommendation.simpler is not None:
        sentences.append(_better("the next simpler choice", recommendation.simpler))
    if recommendation.larger is not None:
        sentences.append(_larger(recommendation.larger, recommendation.sets, queries))
    if set(signals) != set(chosen.signals):
        sentences.append(ran)
    tried = f"all {recommendation.sets:,}" if recommendation.exhaustive else f"{recommendation.sets:,}"
    sentences.append(
        f"It was chosen from {tried} sets of signals by these same queries: on others, expect a little less."
    )
    return [*sentences, f"In `embedfleet search` and `run`: {recommendation.flag}"]


def _better(what: str, against: Against) -> str:
    difference, other = against.difference, against.other
    return (
        f"That is {difference.mean:.4f} better than {what}, {_listed(other.signals)} ({_figures(other)}): "
        f"{_spread(difference)}; at Recall@10 {_signed(against.recall)}."
    )


def _larger(against: Against, sets: int, queries: int) -> str:
    """Why the best of the larger sets is not recommended."""
    other, more = against.other, against.difference.reversed()
    name = f"The best larger set, {_listed(other.signals)} ({_figures(other)}),"
    if more.mean <= 0:
        return f"{name} is not better: {_signed(more)}."
    if more.mean < LEAST_GAIN:
        return f"{name} is {more.mean:.4f} better; below {LEAST_GAIN} is not worth another signal: {_spread(more)}."
    if more.low is None or more.low <= 0:
        return (
            f"{name} is {more.mean:.4f} better on these queries, but {pluralize(queries, 'query', 'queries')} cannot show "
            f"that it is better on others: {_spread(more)}; at Recall@10 {_signed(against.recall.reversed())}. "
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


def _signed(difference: Difference) -> str:
    return f"{difference.mean:+.4f}, {_spread(difference)}"


def _spread(difference: Difference) -> str:
    better = pluralize(difference.better, "query", "queries")
    return f"{interval(difference)}, better on {better}, worse on {difference.worse:,}"


def _figures(figures: SetFigures) -> str:
    return f"nDCG@10 {figures.ndcg:.4f}, {_seconds(figures.seconds)}"


def _listed(names: Sequence[str]) -> str:
    return " + ".join(names)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:.3f} s"
