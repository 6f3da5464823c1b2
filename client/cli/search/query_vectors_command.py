"""`embedfleet query-vectors`: a query's vectors, and the request for a Qdrant server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ....protocol.errors import EXIT_DONE
from ....protocol.index.queries import QueryVector, SparseQuery
from ...output.formatting import pluralize
from ...search.hybrid import check_query
from ...search.query_vectors import QueryVectors
from ...search.query_vectors import query_vectors as encode
from ...search.shard_search import CANDIDATES
from ..json_output import print_json


def query_vectors(
    folder: Path,
    text: str,
    signals: Sequence[str],
    top_k: int,
    candidates: int | None,
    *,
    timeout: float,
    as_json: bool,
    say: Callable[[str], None],
) -> int:
    """Print the vectors and the request. Returns the exit code."""
    check_query(text, top_k, candidates)
    found = encode(folder, text, signals=signals, timeout=timeout, say=say)
    depth = max(top_k, CANDIDATES if candidates is None else candidates)
    path = f"/collections/{found.collection}/points/query"
    if as_json:
        request = {"method": "POST", "path": path, "body": found.request(top_k, depth)}
        print_json({"query": text, "vectors": found.as_json(), "left_out": found.left_out, "request": request})
    else:
        for line in _lines(found, path, top_k, depth):
            sys.stdout.write(f"{line}\n")
    return EXIT_DONE


def _lines(found: QueryVectors, path: str, top_k: int, depth: int) -> Iterator[str]:
    width = max(map(len, found.vectors))
    for name, vector in found.vectors.items():
        yield f"{name:<{width}}  {_size(vector)}{'' if name in found.fused else ', not fused'}"
    yield f"POST {path}"
    if len(found.fused) == 1:
        yield f"  the first {top_k} by {found.fused[0]}"
    else:
        yield f"  the first {depth} of each of {', '.join(found.fused)}; of their fusion by rank the first {top_k}"
    yield "--json prints the vectors and the request's body"


def _size(vector: QueryVector) -> str:
    if isinstance(vector, SparseQuery):
        return pluralize(len(vector.indices), "term")
    tokens = f"{pluralize(len(vector), 'token')} of " if vector.ndim > 1 else ""
    return f"{tokens}{pluralize(vector.shape[-1], 'number')}"
