"""RetrievalPlan: the steps of `embedfleet run --queries` after the corpus is embedded."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.spec.run_spec import PassSpec


@dataclass(frozen=True, slots=True)
class RetrievalPlan:
    """Query file, judgements, reranker and depths of a retrieval. A file is an absolute path or an address."""

    queries: str
    qrels: str | None
    rerank: PassSpec | None
    candidates: int
    top_k: int
    wanted: tuple[str, ...] = ()
    """Signals to score. Of an ensemble and its members, the ensemble is fused. Empty for all signals."""
    named: tuple[str, ...] = ()
    """Signals of `wanted` that the user named: they are fused even if another signal contains them."""
