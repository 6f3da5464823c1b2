"""A query's vectors, and the request by which a Qdrant server searches a loaded run with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from ...protocol.errors import UsageError
from ...protocol.index.fusion import fused_names, metadata_vectors
from ...protocol.index.queries import QueryVector, SparseQuery, drop_empty
from ...protocol.run_directory.layout import RunLayout
from ...protocol.text.preprocessing import preprocessor
from ..arguments import run_folder
from ..options.signal_names import choose_signals
from ..run_directory.files import read_spec
from .query_encoder import Encoded, encode_queries
from .query_models import TIMEOUT, check_timeout

JsonVector = Any
"""A dense vector or a multivector as an array of float32, a sparse one as `{"indices", "values"}`."""


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """A query as each signal of a run has it."""

    collection: str
    """The collection that `embedfleet upload` makes of the run where no other name is given."""
    vectors: Mapping[str, QueryVector]
    fused: Sequence[str]
    """Those that are fused, in their order."""
    left_out: Mapping[str, str]
    """By vector name, why it has no query vector."""

    def as_json(self) -> dict[str, JsonVector]:
        """The vectors as Qdrant's API has them."""
        return {name: _as_json(one) for name, one in self.vectors.items()}

    def request(self, limit: int, candidates: int) -> dict[str, Any]:
        """The body of `POST /collections/{name}/points/query`: the first `candidates` points of each signal, compared exactly,
        fused by their ranks. A lone signal is asked without fusion."""
        asked = [{"query": _as_json(self.vectors[name]), "using": name} for name in self.fused]
        exact, shown = {"params": {"exact": True}}, {"limit": limit, "with_payload": True}
        if len(asked) == 1:
            return {**asked[0], **exact, **shown}
        prefetch = [{**one, "limit": candidates, **exact} for one in asked]
        return {"prefetch": prefetch, "query": {"fusion": "rrf"}, **shown}


def query_vectors(
    path: str | PathLike[str],
    query: str,
    *,
    signals: Sequence[str] = (),
    timeout: float = TIMEOUT,
    say: Callable[[str], None] = lambda _line: None,
) -> QueryVectors:
    """Encode `query` with the models of the run in `path`. `signals`, `timeout` and `say` are as in `search`.

    UsageError if no signal can answer the query; RunDirectoryError if `path` is no run, or a pass has not begun.
    """
    check_timeout(timeout)
    from ...protocol.index.collection import collection_name  # late: it brings Arrow, and a search needs none

    layout = RunLayout(run_folder(path))
    spec = read_spec(layout)
    text = preprocessor(spec.preprocessing)(query)
    wanted, named = choose_signals(spec, signals, layout.root)
    vectors, left_out = usable_vectors(encode_queries(layout, spec, [text], timeout, wanted, say), wanted, say)
    fused = fused_names(spec, vectors, metadata_vectors(layout, spec), named)
    return QueryVectors(collection_name(layout.root), vectors, fused, left_out)


def usable_vectors(
    encoded: Encoded, wanted: Sequence[str], say: Callable[[str], None]
) -> tuple[dict[str, QueryVector], dict[str, str]]:
    """By vector name, the vectors of the only query, and the reasons why others are left out, which `say` gets too.

    UsageError if there is no vector.
    """
    found = {name: encoded.vectors[name][0] for name in wanted if name in encoded.vectors}
    vectors = drop_empty(found)
    left_out = encoded.left_out | {name: _unknown(found[name]) for name in found if name not in vectors}
    reasons = [f"{name} is left out: {left_out[name]}" for name in wanted if name in left_out]
    if not vectors:
        raise UsageError(f"no signal can answer this query; {'; '.join(reasons)}")
    for line in reasons:
        say(line)
    return vectors, left_out


def _unknown(vector: QueryVector) -> str:
    """Why a query vector is empty."""
    what = "no term" if isinstance(vector, SparseQuery) else "only zeros"
    return f"the query vector has {what}: it knows no word of the query, or stop words alone"


def _as_json(vector: QueryVector) -> JsonVector:
    if isinstance(vector, SparseQuery):
        return {"indices": vector.indices, "values": vector.values}
    return np.ascontiguousarray(vector)
