"""Single queries: which ranking won, what each has first, and the texts of query and relevant chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import msgspec
import numpy as np
import numpy.typing as npt

from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.segment_stream import stream_batches
from .qrels import Qrels
from .signal_sets import DIGITS

MOST_QUERIES = 50
MOST_RELEVANT = 3
MOST_CHARS = 300
"""Of a text; the rest is cut off."""


class JudgedChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk with the beginning of its text."""

    id: str
    text: str
    judgement: int
    """0 where it has none."""


class QueryRanking(msgspec.Struct, frozen=True, kw_only=True):
    """One ranking of one query."""

    name: str
    ndcg: float
    """nDCG@10."""
    relevant_rank: int | None
    """The rank of the first relevant chunk; None if the ranking has none."""
    first: JudgedChunk | None
    """None for a ranking without chunks."""


class QueryResult(msgspec.Struct, frozen=True, kw_only=True):
    """One judged query."""

    id: str
    text: str
    rankings: tuple[QueryRanking, ...]
    relevant: tuple[JudgedChunk, ...]
    """The best judged chunks, at most MOST_RELEVANT."""
    relevant_count: int

    @property
    def won(self) -> tuple[str, ...]:
        """The rankings with the best nDCG@10; none where all are equal."""
        return self._at(max(one.ndcg for one in self.rankings))

    @property
    def lost(self) -> tuple[str, ...]:
        """The rankings with the worst nDCG@10; none where all are equal."""
        return self._at(min(one.ndcg for one in self.rankings))

    def _at(self, ndcg: float) -> tuple[str, ...]:
        names = tuple(one.name for one in self.rankings if one.ndcg == ndcg)
        return names if len(names) < len(self.rankings) else ()


Ndcg = Mapping[str, npt.NDArray[np.float64]]
"""By ranking, nDCG@10 of each judged query."""


def most_different(judged: Qrels, ndcg: Ndcg) -> Qrels:
    """The queries on which the rankings differ most at nDCG@10, at most MOST_QUERIES, the most different first."""
    table = np.stack(list(ndcg.values()))
    order = np.argsort(table.min(axis=0) - table.max(axis=0), kind="stable")
    queries = list(judged)
    return {queries[place]: judged[queries[place]] for place in order[:MOST_QUERIES].tolist()}


def query_results(
    layout: RunLayout, judged: Qrels, shown: Qrels, ndcg: Ndcg, rankings: Mapping[str, Mapping[str, Sequence[str]]]
) -> tuple[QueryResult, ...]:
    """The results of the queries `shown`, in their order. `rankings` has the chunk ids of each query by ranking, best first."""
    places = {query: place for place, query in enumerate(judged)}
    relevant = {query: _relevant(chunks) for query, chunks in shown.items()}
    wanted = {chunk for chunks in relevant.values() for chunk in chunks[:MOST_RELEVANT]}
    wanted |= {ids[0] for ranking in rankings.values() for ids in ranking.values() if ids}
    queries, texts = _texts(RunLayout(layout.queries), shown.keys()), _texts(layout, wanted)

    def chunk(query: str, one: str) -> JudgedChunk:
        return JudgedChunk(id=one, text=texts.get(one, ""), judgement=shown[query].get(one, 0))

    def ranking(query: str, name: str) -> QueryRanking:
        ids = rankings.get(query, {}).get(name, ())
        ranks = (rank for rank, one in enumerate(ids, 1) if shown[query].get(one, 0) > 0)
        return QueryRanking(
            name=name,
            ndcg=round(float(ndcg[name][places[query]]), DIGITS),
            relevant_rank=next(ranks, None),
            first=chunk(query, ids[0]) if ids else None,
        )

    return tuple(
        QueryResult(
            id=query,
            text=queries.get(query, ""),
            rankings=tuple(ranking(query, name) for name in ndcg),
            relevant=tuple(chunk(query, one) for one in relevant[query][:MOST_RELEVANT]),
            relevant_count=len(relevant[query]),
        )
        for query in shown
    )


def _relevant(chunks: Mapping[str, int]) -> list[str]:
    """The relevant chunks, the best judged first."""
    return sorted((one for one, score in chunks.items() if score > 0), key=lambda one: -chunks[one])


def _texts(layout: RunLayout, wanted: Set[str]) -> dict[str, str]:
    """The beginnings of the texts of these chunks, by id."""
    found: dict[str, str] = {}
    for segment in segments_in(layout.chunks):
        for batch in stream_batches(layout.chunk_segment(segment), ("id", "text")):
            texts = batch.column("text")
            for place, one in enumerate(batch.column("id").to_pylist()):
                if one in wanted:
                    found[one] = _beginning(texts[place].as_py())
    return found


def _beginning(text: str) -> str:
    line = " ".join(text[: 4 * MOST_CHARS].split())
    return line if len(line) <= MOST_CHARS and len(text) <= 4 * MOST_CHARS else f"{line[:MOST_CHARS]}…"
