"""Contributions: for each signal its score alone, the fusion without it, and the relevant chunks that only it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ...protocol.finished_run.candidates import queries_in
from ...protocol.index.fusion import fused_names, metadata_vectors
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord
from ...protocol.spec.run_spec import RunSpec
from .paired import Difference, compare
from .qrels import Qrels
from .ranking_costs import seconds_of
from .recommendation import Recommendation, SetFigures, recommend
from .signal_sets import TOP, OnlyFound, QueryRanks, Signals, discounted, only_found, try_sets


class OnlyIt(msgspec.Struct, frozen=True, kw_only=True):
    """Relevant chunks among a signal's first N that no other fused signal has among its own first N."""

    chunks: int
    queries: tuple[str, ...]
    """Ids of the queries that these chunks answer."""


class SignalFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one signal; the scores are nDCG@10."""

    name: str
    alone: float
    without: float | None
    """The fusion of all signals but this one. None for the only signal, and for one that is not fused (a member of an
    ensemble)."""
    adds: Difference | None
    """The fusion of all signals minus `without`, query by query."""
    first_ten: OnlyIt
    candidates: OnlyIt
    seconds: float


class Contributions(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of all signals, and the recommendation."""

    fusion: SetFigures
    """The fusion of all signals, each kind of evidence once."""
    signals: tuple[SignalFigures, ...]
    recommendation: Recommendation | None


@dataclass(frozen=True, slots=True)
class _Judged:
    """The ranks of the judged queries; each iteration reads them from the file, since there may be many."""

    layout: RunLayout
    signals: Signals
    judged: Qrels

    def __call__(self) -> Iterator[QueryRanks]:
        places = {query: place for place, query in enumerate(self.judged)}
        columns = [f"{name}.rank" for name in self.signals]
        for rows in queries_in(self.layout.ranking, ["query", "id", "row", *columns]):
            query = rows[0]["query"]
            if query in places:
                rows.sort(key=lambda row: row["row"])
                judgements = self.judged[query]
                gains = [max(judgements.get(row["id"], 0), 0) for row in rows]
                ranks = np.array([[row[column] or 0 for row in rows] for column in columns], np.int64)
                relevant = sorted((score for score in judgements.values() if score > 0), reverse=True)
                ideal = discounted(relevant)
                yield QueryRanks(places[query], ranks, np.array(gains, np.int64), ideal, len(relevant))


def weigh_signals(layout: RunLayout, spec: RunSpec, record: CandidatesRecord, judged: Qrels) -> Contributions:
    """Compute what each signal adds and which signals to fuse, from the judged queries of the run in `layout`."""
    signals, of_metadata = record.signals, metadata_vectors(layout, spec)
    together = tuple(fused_names(spec, signals, of_metadata))
    without = {name: tuple(one for one in together if one != name) for name in together if len(together) > 1}
    queries = _Judged(layout, signals, judged)
    tried = try_sets(
        queries,
        len(judged),
        signals,
        lambda some: fused_names(spec, some, of_metadata) == list(some),
        record.candidates,
        also=[together, *without.values()],
    )
    lost = [tried.of(together) - tried.of(rest) for rest in without.values()]
    adds = dict(zip(without, compare(np.stack(lost, axis=1)), strict=True)) if lost else {}
    first_ten, candidates = only_found(queries(), signals, together, (TOP, record.candidates))
    names, seconds = list(judged), seconds_of(layout, spec)

    return Contributions(
        fusion=SetFigures(signals=together, ndcg=tried.mean(tried.place(together)), seconds=seconds(together)),
        signals=tuple(
            SignalFigures(
                name=name,
                alone=tried.mean(tried.place([name])),
                without=tried.mean(tried.place(without[name])) if name in without else None,
                adds=adds.get(name),
                first_ten=_only_it(first_ten[name], names),
                candidates=_only_it(candidates[name], names),
                seconds=seconds([name]),
            )
            for name in signals
        ),
        recommendation=recommend(tried, seconds),
    )


def _only_it(only: OnlyFound, names: Sequence[str]) -> OnlyIt:
    return OnlyIt(chunks=only.chunks, queries=tuple(names[place] for place in only.queries))
