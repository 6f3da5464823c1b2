"""Scores of (query, text) pairs by a reranker, for a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...protocol.errors import EmbedfleetError
from ...protocol.spec.run_spec import PassSpec
from ..output.truncation_lines import cut_pairs
from .query_child import Question
from .query_models import QueryModels


def score_pairs(
    reranker: PassSpec, pairs: Sequence[str], timeout: float, say: Callable[[str], None], models: QueryModels
) -> list[float | None]:
    """The scores of (query, text) pairs by a reranker; `protocol.text.query_pairs` joins a pair to one text.

    None for a score that is not a number. `say` gets a line if pairs were truncated. EmbedfleetError if the reranker fails.
    """
    answer = models.ask({reranker.vector: Question(reranker, None, pairs)}, timeout)[reranker.vector]
    if isinstance(answer, EmbedfleetError):
        raise answer
    scores = answer.scores or []
    if len(scores) != len(pairs):
        raise EmbedfleetError(f"{reranker.vector}: the reranker answered {len(scores)} scores for {len(pairs)} pairs")
    if cut := sum(1 for tokens in answer.cut or () if tokens):
        say(cut_pairs(reranker.vector, cut, len(pairs)))
    return scores
