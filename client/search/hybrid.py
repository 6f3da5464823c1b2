"""Hybrid search over the embedded collection of a run: the best chunks of every signal, fused by their ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Self

from ...protocol.errors import UsageError
from ...protocol.index.queries import QueryVector
from ...protocol.object_storage.address import is_address
from ...protocol.object_storage.spool import Spool
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import PassSpec
from ...protocol.text.preprocessing import preprocess, preprocessor
from ...protocol.text.query_pairs import join_pair
from ..arguments import run_folder
from ..options.signal_names import choose_signals
from ..options.spec_builder import make_pass
from ..run_directory.edge_shard import check_searchable
from ..run_directory.files import read_spec
from .copied_run import with_collection
from .filter_keys import Filters, plain_filters
from .hit import Hit as Hit
from .kept_shard import KeptShard
from .pair_scores import score_pairs
from .query_encoder import Encoding
from .query_models import TIMEOUT, QueryModels, check_timeout
from .query_vectors import usable_vectors
from .shard_search import CANDIDATES as CANDIDATES
from .shard_search import search_shard as search_shard
from .timings import Timings

RERANKED = 50
"""Fused hits that a reranker reorders; at most `candidates`, at least `top_k`."""


class Searcher:
    """A run that is open for queries: its models stay loaded, and with `keep` its collection stays open, until `close`.

    A run in progress is searched as far as it is published. UsageError or RunDirectoryError says why a run cannot be
    searched.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        timeout: float = TIMEOUT,
        say: Callable[[str], None] = lambda _line: None,
        keep: bool = True,
    ) -> None:
        self.layout = RunLayout(run_folder(path))
        check_timeout(timeout)
        self.spec = read_spec(self.layout)
        if is_address(path) or Spool.around(self.layout.root) is not None:
            self.spec = with_collection(self.layout, self.spec, say)
        check_searchable(self.layout, self.spec)
        self.timings = Timings()
        self._timeout, self._say = timeout, say
        self._models = QueryModels(self.timings)
        self._shard = KeptShard(self.layout, self.spec, keep=keep, timings=self.timings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the models' processes and close the collection."""
        self._models.close()
        self._shard.close()

    def load(self, signals: Sequence[str] = ()) -> None:
        """Begin to load the models of these signals. Waits for nothing."""
        Encoding(self._models, self.layout, self.spec, [], choose_signals(self.spec, signals, self.layout.root).wanted)

    def search(
        self,
        query: str,
        top_k: int = 10,
        *,
        signals: Sequence[str] = (),
        filters: Filters = (),
        rerank: str | None = None,
        trust_remote_code: bool = False,
        candidates: int | None = None,
    ) -> list[Hit]:
        """As the function `search`."""
        check_query(query, top_k, candidates)
        text = preprocessor(self.spec.preprocessing)(query)
        wanted, named = choose_signals(self.spec, signals, self.layout.root)
        pairs = plain_filters(filters)
        reranker = _reranker(rerank, trust_remote_code) if rerank is not None else None
        vectors, left_out = self._encoded(text, wanted)
        depth = top_k if reranker is None else max(top_k, min(RERANKED, candidates or RERANKED))
        self._shard.open()
        with self.timings.stage("engine"):
            hits = search_shard(self.layout, self.spec, vectors, depth, pairs, named, candidates, self._shard)
        if left_out:
            hits = [replace(hit, left_out=left_out) for hit in hits]
        return hits if reranker is None else self._reranked(reranker, text, hits)[:top_k]

    def _encoded(self, text: str, wanted: Sequence[str]) -> tuple[dict[str, QueryVector], dict[str, str]]:
        """By vector name, the query vectors and the reasons why others are left out. UsageError if there is no vector."""
        with self.timings.stage("models"):
            encoding = Encoding(self._models, self.layout, self.spec, [text], wanted)
            import qdrant_edge as _  # noqa: F401 - while the models are loaded

            encoded = encoding.collect(self._timeout, self._say)
        return usable_vectors(encoded, wanted, self._say)

    def _reranked(self, reranker: PassSpec, query: str, hits: list[Hit]) -> list[Hit]:
        pairs = [join_pair(query, hit.text) for hit in hits]
        with self.timings.stage("reranker"):
            scores = score_pairs(reranker, pairs, self._timeout, self._say, self._models) if hits else []
        scored = [replace(hit, rerank=score) for hit, score in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: (hit.rerank is None, -(hit.rerank or 0.0)))  # stable: ties stay as fused


def search(
    path: str | PathLike[str],
    query: str,
    top_k: int = 10,
    *,
    signals: Sequence[str] = (),
    filters: Filters = (),
    rerank: str | None = None,
    timeout: float = TIMEOUT,
    trust_remote_code: bool = False,
    candidates: int | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Hit]:
    """The `top_k` chunks of the run in `path` that fit `query` best, best first.

    `signals` are names of vectors, ends of names, or forms (`dense`, `sparse`, `multivector`); empty for all. Vectors given
    by name are fused. Of the others, `fused_names` chooses which to fuse; the rest are only scored. The first `candidates`
    chunks of each signal are fused: by default CANDIDATES, or `top_k` if larger. `filters` are texts as `--filter` takes
    them (`words>=100`), (key, value) pairs of the metadata, or a dict of such pairs; all must match. A list as value means
    any of its elements.

    `rerank` is a cross-encoder that reorders the first RERANKED hits. Hits that it cannot score follow in the fused order.
    `trust_remote_code` lets it run code of its own; for the run's models, the run's setting holds.

    A signal is left out if its model cannot encode the query or knows no word of it: `say` gets a line for each, and
    `Hit.left_out` has the reasons. UsageError if no signal is left. `say` also gets a line for each model that truncated the
    query, and one if the reranker truncated texts.

    A run in progress is searched as far as it is published. UsageError or RunDirectoryError says why a run cannot be
    searched. Encoding the query may take `timeout` seconds, and the reranker as long again; their failures are ModelError
    and EmbedfleetError.
    """
    if not is_address(path):
        run_folder(path)
    check_query(query, top_k, candidates)
    with Searcher(path, timeout=timeout, say=say, keep=False) as searcher:
        return searcher.search(
            query,
            top_k,
            signals=signals,
            filters=filters,
            rerank=rerank,
            trust_remote_code=trust_remote_code,
            candidates=candidates,
        )


def check_query(query: str, top_k: int, candidates: int | None) -> None:
    """Raise UsageError for what cannot be asked of any run."""
    if not preprocess(query):
        raise UsageError("the query is empty: give some words to search for")
    if top_k < 1:
        raise UsageError(f"--top-k {top_k}: give 1 or more")
    if candidates is not None and candidates < top_k:
        raise UsageError(f"--candidates {candidates}: give at least {top_k}, which is --top-k")


def _reranker(model: str, trust_remote_code: bool) -> PassSpec:
    return make_pass("rerank", model, {"dtype": "float32", "trust_remote_code": trust_remote_code})
