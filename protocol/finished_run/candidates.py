"""The tables of candidates and of their final ranking: one row for each (query, chunk), the rows of a query together.

candidates.parquet   `query` string, `query_row` int64, `id` string, `row` int64; for each signal NAME `NAME.score` float32
                     (null: the chunk has no such vector, or shares no term with the query) and `NAME.rank` int32 (from 1;
                     null: not among the signal's first); `fused.score` float64 and `fused.rank`, null where the fusion left
                     it out. Ranks are by score, equal scores by row; the fused score is computed from the ranks beside it.
                     The fused ones come first, by rank: in that order they are the pairs of `pairs.jsonl`
ranking.parquet      the same, then `rerank.score`, `rerank.rank` (among those scored), `rank` (the final one, null where the
                     fusion left it out) and `fallback` string: why a pair has no score and keeps its fused order
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..run_directory.segment_stream import stream_batches
from .ranking_names import FUSED as FUSED
from .ranking_names import RERANK as RERANK

Row = dict[str, Any]
"""A row of these tables: their columns depend on the signals of the run."""

HEAD = ("query", "query_row", "id", "row")

_HEAD = [
    pa.field("query", pa.string()),
    pa.field("query_row", pa.int64()),
    pa.field("id", pa.string()),
    pa.field("row", pa.int64()),
]


def candidates_schema(signals: Sequence[str]) -> pa.Schema:
    """Columns of candidates.parquet."""
    return pa.schema([*_HEAD, *(field for name in (*signals, FUSED) for field in _scored(name))])


def ranking_schema(signals: Sequence[str]) -> pa.Schema:
    """Columns of ranking.parquet."""
    own = [*_scored(RERANK), pa.field("rank", pa.int32()), pa.field("fallback", pa.string())]
    return pa.schema([*candidates_schema(signals), *own])


def queries_in(path: Path, columns: Sequence[str]) -> Iterator[list[Row]]:
    """Yield the rows of each query in one of these files, in order, with a few megabytes in memory."""
    names = list(dict.fromkeys(["query_row", *columns]))
    rows = (row for batch in stream_batches(path, names) for row in batch.to_pylist())
    for _, group in groupby(rows, key=itemgetter("query_row")):
        yield list(group)


def pair_id(query: str, chunk: str) -> str:
    """The id of a pair in its corpus. It begins with the length of the query's id, since ids may have tabs."""
    return f"{len(query)}\t{query}\t{chunk}"


def _scored(name: str) -> list[Any]:
    score = pa.float64() if name == FUSED else pa.float32()
    return [pa.field(f"{name}.score", score), pa.field(f"{name}.rank", pa.int32())]
