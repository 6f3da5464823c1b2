"""A few sentences on an evaluation: which signal earns its cost, and, where hybrid is no better, why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..protocol.candidates import FUSED, RERANK
from .costs import Cost
from .words import counted

CHANCE_T = 2.0

NO_SPREAD = 1e-9
"""Below it, differences are the same but for rounding."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One ranking over the judged queries: `measures` (queries, 3) nDCG@10, recall, MRR@10; `found` (queries) whether
    a relevant chunk is among the first ten."""

    name: str
    measures: npt.NDArray[np.float64]
    found: npt.NDArray[np.bool_]

    @property
    def ndcg(self) -> npt.NDArray[np.float64]:
        return self.measures[:, 0]

    @property
    def mean(self) -> float:
        """nDCG@10 over all queries, as the table shows it: what looks equal there is called equal."""
        return round(float(self.ndcg.mean()), 4)


def verdict(outcomes: Sequence[Outcome], spent: Mapping[str, Cost], fused_of: Sequence[str]) -> str:
    """By nDCG@10. `fused_of` are the signals that are fused; the others are held by one of them."""
    named = {one.name: one for one in outcomes}
    fused = named[FUSED]
    signals = [one for one in outcomes if one.name not in (FUSED, RERANK)]
    together = [one for one in signals if one.name in fused_of]
    best = max(signals, key=lambda one: (one.mean, one.name in fused_of))
    improves = len(together) > 1 and fused.mean > best.mean
    said = [_hybrid(fused, best, together)]
    said += [_earns(one, best, spent, improves=improves) for one in together if one is not best]
    if held := [one.name for one in signals if one.name not in fused_of]:
        said.append(f"Not fused on their own, since another signal holds them: {', '.join(held)}.")
    if RERANK in named:
        said.append(_reranker(named[RERANK], fused, spent))
    return " ".join(said)


def _hybrid(fused: Outcome, best: Outcome, together: Sequence[Outcome]) -> str:
    if len(together) == 1:
        (only,) = together
        better = f" {best.name} alone reaches {best.mean:.4f}." if best.mean > only.mean else ""
        return f"There is one signal to rank by, {only.name} ({only.mean:.4f}): nothing to fuse.{better}"
    if fused.mean >= best.mean:
        word = "beats" if fused.mean > best.mean else "equals"
        return (
            f"Hybrid ({fused.mean:.4f}) {word} the best single signal, {best.name} ({best.mean:.4f}), at nDCG@10: "
            f"{_against(fused, best)}."
        )
    pushed = int((best.found & ~fused.found).sum())
    pulled = int((fused.found & ~best.found).sum())
    moved = [f"it brought a relevant chunk into the first ten for {_queries(pulled)}"] if pulled else []
    moved += [f"it pushed the only ones out of the first ten for {_queries(pushed)}"] if pushed else []
    moved = moved or ["within the first ten it moved relevant chunks down more than up"]
    return (
        f"Hybrid ({fused.mean:.4f}) does not beat {best.name} alone ({best.mean:.4f}) at nDCG@10: {_against(fused, best)}. "
        f"The fusion gives each signal the same say, and {_fault(best, together)}: {' and '.join(moved)}."
    )


def _fault(best: Outcome, together: Sequence[Outcome]) -> str:
    """What about the fused signals makes their order worse than that of the best one."""
    weakest = min(together, key=lambda one: one.mean)
    if weakest.mean < best.mean:
        return f"{weakest.name} ({weakest.mean:.4f}) is weaker"
    return "none is weaker on the whole, but chunks on which they agree stand before those that only one ranks high"


def _earns(one: Outcome, best: Outcome, spent: Mapping[str, Cost], *, improves: bool) -> str:
    """Whether a fused signal beside the best one finds what that does not, or `improves` the order with the others."""
    alone = int((one.found & ~best.found).sum())
    price = _seconds(spent[one.name].seconds)
    if not alone:
        nothing = f"{one.name} ({price}) finds nothing in its first ten that {best.name} does not"
        return (
            f"{nothing}, but the fused order, in which it has its say, is better: that is what it earns."
            if improves
            else f"{nothing}: it does not earn its cost."
        )
    share = alone / len(one.found)
    return (
        f"{one.name} ({price}, against {_seconds(spent[best.name].seconds)}) finds a relevant chunk for {_queries(alone)} "
        f"({share:.1%}) where {best.name} finds none: that is what it earns."
    )


def _reranker(one: Outcome, fused: Outcome, spent: Mapping[str, Cost]) -> str:
    change = one.mean - fused.mean
    price = _seconds(spent[RERANK].seconds)
    if change > 0:
        return f"Reranking adds {change:.4f} for {price}: {_against(one, fused)}."
    what = f"makes the order worse by {-change:.4f}" if change < 0 else "changes nothing on the whole"
    return f"Reranking {what}, for {price}: {_against(one, fused)}; this reranker does not earn its cost here."


def _against(one: Outcome, other: Outcome) -> str:
    won, lost = int((one.ndcg > other.ndcg).sum()), int((one.ndcg < other.ndcg).sum())
    return f"better on {_queries(won)}, worse on {lost}{_chance(one, other)}"


def _queries(count: int) -> str:
    return counted(count, "query", "queries")


def _chance(one: Outcome, other: Outcome) -> str:
    """A warning where the paired t statistic of the differences is below CHANCE_T, about one in twenty by chance, and where
    there is none: of one query, or of differences that are all the same."""
    differences = one.ndcg - other.ndcg
    if not differences.any():
        return ""
    if len(differences) < 2:
        return " (a difference that chance may explain: one query tells nothing of others)"
    spread = float(differences.std(ddof=1))
    if spread < NO_SPREAD:
        return " (a difference that chance may explain: it is the same on every query, too even to be tested)"
    t = abs(float(differences.mean())) / (spread / len(differences) ** 0.5)
    return f" (a difference that chance may explain: paired t {t:.1f})" if 0 < t < CHANCE_T else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:.3f} s"
