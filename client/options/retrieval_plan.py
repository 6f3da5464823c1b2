"""RetrievalPlan: what `embedfleet run --queries` is to do once the corpus is embedded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...protocol.spec.run_spec import PassSpec


@dataclass(frozen=True, slots=True)
class RetrievalPlan:
    """What is to be done once the corpus is embedded."""

    queries: Path
    qrels: Path | None
    rerank: PassSpec | None
    candidates: int
    top_k: int
    wanted: tuple[str, ...] = ()
    """Signals to fuse, each kind of evidence once; empty fuses all."""
    named: tuple[str, ...] = ()
    """Those of them that are fused even if another signal contains them, since the user named them."""
