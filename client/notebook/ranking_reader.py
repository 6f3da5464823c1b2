"""Ranking: the chunks that were found for each query, read back from `export/rerank.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout
from ..evaluation.evaluation import Evaluation


class RankedChunk(msgspec.Struct, frozen=True):
    """One line: a chunk, its final rank, and its scores by each signal, the fusion and the reranker."""

    query: str
    id: str
    row: int
    rank: int
    scores: dict[str, float | None]
    ranks: dict[str, int | None]
    fallback: bool
    """Whether the chunk has no score of the reranker, and so keeps its fused order."""
    reason: str | None = None


class Ranking:
    """Lines by query and then by rank, read one at a time, since the file may be long."""

    def __init__(self, layout: RunLayout, evaluation: Evaluation | None) -> None:
        self.file: Path = layout.reranked
        self.evaluation = evaluation
        """How well every signal, the fusion and the reranker answer the judged queries; None without judgements."""
        self.report: Path | None = layout.report if evaluation is not None else None
        """The path of the HTML report."""

    def __repr__(self) -> str:
        return f"Ranking({str(self.file)!r})"

    def __iter__(self) -> Iterator[RankedChunk]:
        decoder = msgspec.json.Decoder(RankedChunk)
        try:
            with self.file.open("rb") as lines:
                yield from map(decoder.decode, lines)
        except (OSError, msgspec.MsgspecError) as error:
            raise RunDirectoryError(f"{self.file}: cannot be read ({error}); rank again") from error

    def of(self, query: str) -> list[RankedChunk]:
        """The chunks for the query with this id, best first; empty if nothing was found, or the query is in quarantine."""
        return [one for one in self if one.query == query]
