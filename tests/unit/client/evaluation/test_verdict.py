"""An evaluation in words: what is said follows from the figures, and the flag to type comes last."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.client.evaluation import signal_table
from embedfleet.client.evaluation.contributions import Contributions, OnlyIt, SignalFigures
from embedfleet.client.evaluation.paired import Difference
from embedfleet.client.evaluation.ranking_costs import Cost
from embedfleet.client.evaluation.recommendation import Against, Recommendation, SetFigures
from embedfleet.client.evaluation.summary import verdict

COST = Cost(seconds=2.0, per_second=9.0, device="cpu:0")
NOTHING = OnlyIt(chunks=0, queries=())


def figures(*signals: str, ndcg: float = 0.5, seconds: float = 61.5) -> SetFigures:
    return SetFigures(signals=signals, ndcg=ndcg, seconds=seconds)


def difference(mean: float, low: float | None = None, high: float | None = None, sure: bool = False) -> Difference:
    return Difference(mean=mean, low=low, high=high, better=12, worse=5, sure=sure)


def signal(name: str, **more: Any) -> SignalFigures:
    plain: dict[str, Any] = {"alone": 0.5, "without": None, "adds": None, "first_ten": NOTHING, "candidates": NOTHING}
    return SignalFigures(name=name, **(plain | {"seconds": 61.5} | more))


MORE = difference(0.1, 0.05, 0.15)


def recommendation(chosen: SetFigures, **more: Any) -> Recommendation:
    flag = f"--signals {','.join(chosen.signals)}"
    plain: dict[str, Any] = {"single": None, "simpler": None, "larger": None, "sets": 7, "exhaustive": True}
    return Recommendation(chosen=chosen, flag=flag, **(plain | more))


def said(
    found: Recommendation | None, names: tuple[str, ...] = ("dense", "bm25", "bad"), queries: int = 29, **more: Any
) -> str:
    fusion = more.pop("fusion", figures(*names, ndcg=0.47))
    parts = Contributions(fusion=fusion, signals=tuple(map(signal, names)), recommendation=found)
    return verdict(parts, queries, more.pop("fused", fusion), **more)


def test_a_set_is_recommended_with_what_it_gains_and_what_it_costs() -> None:
    single = Against(
        other=figures("dense", ndcg=0.559), difference=difference(0.031, 0.004, 0.058, sure=True), recall=MORE
    )
    larger = Against(
        other=figures("dense", "bm25", "bad", ndcg=0.47), difference=difference(0.12, 0.08, 0.16), recall=MORE
    )
    text = said(recommendation(figures("dense", "bm25", ndcg=0.59, seconds=61.56), single=single, larger=larger))
    assert text.startswith("Recommended: dense + bm25, fused (nDCG@10 0.5900, 61.6 s). ")
    assert (
        "That is 0.0310 better than the best single signal, dense (nDCG@10 0.5590, 61.5 s): 95% interval 0.0040 to 0.0580, "
        "better on 12 queries, worse on 5; at Recall@10 +0.1000, 95% interval 0.0500 to 0.1500, better on 12" in text
    )
    assert (
        "The best larger set, dense + bm25 + bad (nDCG@10 0.4700, 61.5 s), is not better: -0.1200, 95% interval" in text
    )
    assert "95% interval -0.1600 to -0.0800, better on 5 queries, worse on 12." in text
    assert "This run fused dense + bm25 + bad (0.4700)." in text
    assert "It was chosen from all 7 sets of signals by these same queries: on others, expect a little less." in text
    assert text.endswith("--signals dense,bm25")


def test_a_run_that_fused_what_is_recommended_says_nothing_of_it() -> None:
    chosen = figures("dense", "bm25")
    assert "This run fused" not in said(recommendation(chosen), fused=figures("bm25", "dense"))
    assert "chosen from 47 sets" in said(recommendation(chosen, sets=47, exhaustive=False))


def test_one_set_with_two_figures_is_explained() -> None:
    text = said(recommendation(figures("dense")), fused=figures("bad", "bm25", "dense", ndcg=0.46))
    assert "fused bad + bm25 + dense (0.4600; members in place of an ensemble that could not encode a query)." in text


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (difference(-0.031, -0.067, 0.005), "is 0.0310 better on these queries, but 29 queries cannot show that"),
        (
            difference(-0.031),
            "on others: too few queries for an interval, better on 5 queries, worse on 12; at Recall@10 -0",
        ),
        (difference(-0.004, -0.005, -0.003), "is 0.0040 better; below 0.01 is not worth another signal: 95%"),
        (
            difference(-0.031, -0.060, -0.002),
            "is 0.0310 better, which is within chance for the best of 7 sets: 95% interval 0.0020",
        ),
        (difference(0.0, 0.0, 0.0), "is not better: +0.0000, 95% interval 0.0000 to 0.0000"),
    ],
)
def test_why_a_larger_set_is_not_recommended(gain: Difference, words: str) -> None:
    larger = Against(other=figures("dense", "bm25"), difference=gain, recall=MORE)
    text = said(recommendation(figures("dense"), larger=larger))
    assert text.startswith("Recommended: dense alone (nDCG@10 0.5000, 61.5 s). The best larger set, dense + bm25")
    assert words in text
    assert text.endswith("--signals dense")


def test_the_next_simpler_choice() -> None:
    simpler = Against(
        other=figures("a", "b", ndcg=0.52), difference=difference(0.03, 0.01, 0.05, sure=True), recall=MORE
    )
    text = said(recommendation(figures("a", "b", "c", ndcg=0.55), simpler=simpler))
    assert "That is 0.0300 better than the next simpler choice, a + b (nDCG@10 0.5200, 61.5 s): 95% interval" in text


def test_nothing_is_recommended_of_one_signal_or_by_few_queries() -> None:
    assert said(None, ("dense",)) == "There is one signal, dense (0.5000 at nDCG@10): nothing to choose from."
    assert said(None, queries=1) == "1 judged query is too few to recommend signals: give 6 or more."
    assert said(None, queries=5) == "5 judged queries are too few to recommend signals: give 6 or more."
    words = "No signal has a relevant chunk among its first ten, for any of the 6 judged queries: there is nothing to recommend"
    assert said(None, queries=6) == f"{words}."


def test_members_of_an_ensemble_are_not_fused_beside_it() -> None:
    text = said(None, ("a", "b", "both"), queries=3, fusion=figures("both"))
    assert text.startswith("Not fused, since another signal contains it: a + b. 3 judged")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            difference(0.25, 0.2, 0.3),
            "Reranking adds 0.2500 to the fused order, for 2.0 s: 95% interval 0.2000 to 0.3000",
        ),
        (difference(-0.25, -0.3, -0.2), "Reranking makes the fused order worse by 0.2500, for 2.0 s: 95% interval"),
        (difference(0.05, -0.1, 0.2), "Reranking (2.0 s) changes nDCG@10 by +0.0500, 95% interval -0.1000 to 0.2000, "),
        (difference(0.05), "Reranking (2.0 s) changes nDCG@10 by +0.0500, too few queries for an interval, better on"),
    ],
)
def test_what_reranking_changes(change: Difference, words: str) -> None:
    text = said(None, ("dense",), reranked=(change, COST))
    assert words in text
    assert ("no gain is shown" in text) == text.startswith("Reranking (2.0 s) changes")


def test_the_table_of_signals() -> None:
    only = OnlyIt(chunks=25, queries=tuple("abcdefghijklmnop"))
    one = signal("bm25", without=0.4, adds=difference(0.07, -0.01, 0.15), first_ten=only, seconds=0.06)
    bare = signal("held", adds=None)
    rows = signal_table.rows([one, bare])
    assert rows[0] == ("bm25", "0.5000", "0.4000", "+0.0700 (-0.0100 to +0.1500)", "25 for 16 queries", "0", "0.06")
    assert rows[1][2:4] == ("-", "-")
    assert len(signal_table.head(100)) == len(rows[0])
    assert signal_table.head(5)[4:6] == ("only it finds: first 5", "only it finds: first 5")
    assert signal_table.rows([one]) == []
    assert signal_table.rows([signal("a", without=0.4, adds=difference(0.07)), bare])[0][3] == "+0.0700"
