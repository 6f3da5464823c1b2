"""Evaluate each signal, the fusion and the reranker on judged queries: nDCG@10, recall and MRR@10, by ir-measures.

Sources: Järvelin, Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques" (nDCG; linear gains, as trec_eval has
them); MacAvaney et al. 2022, "Streamlining Evaluation with ir-measures".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.candidates import FUSED, RERANK, Row, queries_in
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord, read_candidates
from ...protocol.run_directory.records.sections import read_rerank_run
from ..run_directory.files import AGAIN, read_spec
from .contributions import SignalFigures, weigh_signals
from .judged_queries import judged_queries
from .paired import compare
from .qrels import Qrels
from .query_results import QueryResult, most_different, query_results
from .ranking_costs import Cost, ranking_costs
from .recommendation import Recommendation, SetFigures
from .setting import Setting, describe_setting
from .signal_sets import DIGITS, TOP
from .summary import verdict

RECALL_DEPTH = 100
"""Depth of the recall, at most the number of candidates: no ranking is longer."""
QUERIES_AT_ONCE = 256


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One ranking: a signal's, the fused one, or the reranked one."""

    name: str
    scores: dict[str, float]
    """By measure, the mean over the judged queries."""
    cost: Cost


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """`evaluation.json`."""

    queries: int
    """Number of judged queries that were evaluated."""
    candidates: int
    rankings: tuple[Figures, ...]
    verdict: str
    notes: tuple[str, ...]
    signals: tuple[SignalFigures, ...] = ()
    """What each signal adds to the fusion of all signals."""
    fusion: SetFigures | None = None
    """The fusion of all signals, each kind of evidence once, whichever of them the run fused."""
    recommendation: Recommendation | None = None
    """None with fewer than two signals, too few judged queries, or no relevant chunk among the first ten of any signal."""
    setting: Setting | None = None
    query_results: tuple[QueryResult, ...] = ()
    """Of the queries on which the rankings differ most."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures, in the order of the columns."""
        return measure_names(self.candidates)


def measure_names(candidates: int) -> tuple[str, ...]:
    """The names of an Outcome's columns. The recall's depth is RECALL_DEPTH, or `candidates` if fewer."""
    return (f"nDCG@{TOP}", f"Recall@{min(RECALL_DEPTH, candidates)}", f"MRR@{TOP}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The measures of one ranking: for each judged query nDCG@10, recall and MRR@10, as (queries, 3)."""

    name: str
    measures: npt.NDArray[np.float64]

    @property
    def ndcg(self) -> npt.NDArray[np.float64]:
        return self.measures[:, 0]


class Ranked(msgspec.Struct, frozen=True):
    """One ranking of one query: chunk ids, best first."""

    query: str
    ids: list[str]


def evaluate(layout: RunLayout, qrels: str | PathLike[str]) -> Evaluation:
    """Evaluate the run in `layout` by the judgements in the file `qrels`, a path or an address.

    UsageError if no judgement is of its queries and chunks. `notes` counts the judgements and queries that are left out.
    """
    record = _candidates(layout)
    judged, notes = judged_queries(layout, qrels, record.signals)
    section = read_rerank_run(layout)
    if section is not None and section.fallbacks:
        notes.append(f"{section.fallbacks:,} of {section.pairs:,} pairs have no score and keep their fused order")
    reranked = section is not None
    names = (*record.signals, FUSED, *((RERANK,) if reranked else ()))
    outcomes = {one.name: one for one in measure(names, _rankings(layout, names, judged), judged)}
    spec, together = read_spec(layout), record.fused or record.signals
    costs = ranking_costs(layout, spec, together, reranked, record.queries)
    measures = measure_names(record.candidates)
    figures = {
        name: Figures(name=name, scores=_means(one, measures), cost=costs[name]) for name, one in outcomes.items()
    }
    parts = weigh_signals(layout, spec, record, judged)
    fused = SetFigures(signals=together, ndcg=figures[FUSED].scores[measures[0]], seconds=costs[FUSED].seconds)
    reranking = None
    if reranked:
        (change,) = compare((outcomes[RERANK].ndcg - outcomes[FUSED].ndcg)[:, np.newaxis])
        reranking = change, costs[RERANK]
    return Evaluation(
        queries=len(judged),
        candidates=record.candidates,
        rankings=tuple(figures.values()),
        verdict=verdict(parts, len(judged), fused, reranking),
        notes=tuple(notes),
        signals=parts.signals,
        fusion=parts.fusion,
        recommendation=parts.recommendation,
        setting=describe_setting(layout, record, section),
        query_results=_query_results(layout, judged, outcomes),
    )


def _query_results(layout: RunLayout, judged: Qrels, outcomes: Mapping[str, Outcome]) -> tuple[QueryResult, ...]:
    ndcg = {name: one.ndcg for name, one in outcomes.items()}
    shown = most_different(judged, ndcg)
    rankings: dict[str, dict[str, list[str]]] = {}
    for query in _rankings(layout, list(outcomes), shown):
        for name, one in query.items():
            rankings.setdefault(one.query, {})[name] = one.ids
    return query_results(layout, judged, shown, ndcg, rankings)


def measure(names: Sequence[str], rankings: Iterable[dict[str, Ranked]], judged: Qrels) -> list[Outcome]:
    """The measures of each ranking in `names`, for every judged query. A query that a ranking lacks scores 0."""
    from ir_measures import RR, Qrel, R, ScoredDoc, iter_calc, nDCG

    measures: dict[Any, int] = {nDCG @ TOP: 0, R @ RECALL_DEPTH: 1, RR @ TOP: 2}
    places = {query: place for place, query in enumerate(judged)}
    tables = {name: np.zeros((len(judged), len(measures))) for name in names}
    queries = iter(rankings)
    while some := list(islice(queries, QUERIES_AT_ONCE)):
        asked = {one.query for rankings_of in some for one in rankings_of.values()}
        truth = [Qrel(query, chunk, score) for query in asked for chunk, score in judged[query].items()]
        for name in names:
            mine = [one[name] for one in some if name in one]
            docs = [ScoredDoc(one.query, chunk, float(-place)) for one in mine for place, chunk in enumerate(one.ids)]
            for value in iter_calc(list(measures), truth, docs):
                tables[name][places[value.query_id], measures[value.measure]] = value.value
    return [Outcome(name, tables[name]) for name in names]


def _rankings(layout: RunLayout, names: Sequence[str], judged: Qrels) -> Iterator[dict[str, Ranked]]:
    """The judged queries' rankings, by name."""
    columns = {name: f"{name}.rank" if name != RERANK else "rank" for name in names}
    for rows in queries_in(layout.ranking, ["query", "id", *columns.values()]):
        query = rows[0]["query"]
        if query in judged:
            yield {name: Ranked(query, _ordered(rows, column)) for name, column in columns.items()}


def _ordered(rows: list[Row], column: str) -> list[str]:
    ranked = [row for row in rows if row[column] is not None]
    return [row["id"] for row in sorted(ranked, key=lambda row: row[column])]


def _means(outcome: Outcome, measures: Sequence[str]) -> dict[str, float]:
    means: npt.NDArray[np.float64] = outcome.measures.mean(axis=0)
    return {name: round(float(value), DIGITS) for name, value in zip(measures, means.tolist(), strict=True)}


def _candidates(layout: RunLayout) -> CandidatesRecord:
    record = read_candidates(layout)
    if record is None:
        raise RunDirectoryError(f"{layout.rerank}: has no candidates; {AGAIN}")
    return record
