"""Load the model of a pass to encode queries: by numpy if that is possible, otherwise by the encoder of documents."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import numpy as np

from ..protocol.errors import ModelError
from ..protocol.host.free_cores import FreeCores, allowed_cores, cpu_quota
from ..protocol.spec.fingerprint import Fingerprint, changed_files
from ..protocol.spec.run_spec import CPU_KINDS, PassSpec
from ..protocol.wire.query import QueryAnswer, SparseRow
from .adaptive_batch import AdaptiveBatchController
from .encoders.base import OutOfMemory, Prepared
from .models.identity import identity
from .models.locate import ModelFiles, find_model
from .models.weights_digest import hash_weights
from .plain.encoder import PlainEncoder, plain_encoder
from .token_budget import fitting, longest_first


class QueryModel:
    """Encodes queries, or scores pairs. ModelError if the model cannot be used, or is not that of the run."""

    def __init__(self, spec: PassSpec, theirs: Fingerprint | None) -> None:
        if spec.kind not in CPU_KINDS:
            # The run's vectors exist already, so its model is accepted whether or not it needs --normalize.
            spec = msgspec.structs.replace(spec, dtype="float32", average_length=None, normalize=True)
        if spec.model.startswith("fake:"):  # a fake model does not distinguish queries from documents
            spec = msgspec.structs.replace(spec, prompt=spec.query_prompt)
        self.spec = spec
        self._encoder: Any = None
        self._plain: PlainEncoder | None = None
        self._side: Any = None
        """Counts the tokens of queries. It has a copy of the tokenizer, so it is kept."""
        files = None
        if not spec.model.startswith("fake:") and spec.kind not in CPU_KINDS:
            files = find_model(spec)
            self._plain = _plain(spec, files, theirs)
        if self._plain is None:
            from .encoders.choose import load_encoder

            cores = FreeCores(allowed_cores(), os.cpu_count() or 1, cpu_quota())
            self._encoder = load_encoder(spec, "cpu", cores.threads, files)
            if theirs is not None and spec.kind != "rerank":
                _check(spec, self._encoder.fingerprint, theirs)

    def answer(self, texts: list[str]) -> QueryAnswer:
        """The queries' vectors, or the scores of pairs."""
        if not texts:
            return QueryAnswer()
        if self._plain is not None:
            found, cut = self._plain.queries(texts)
            return _to_answer(self.spec, found, cut)
        if self.spec.kind == "rerank":
            return _scores(self._encoder, texts)
        prepared: Prepared
        if self.spec.model.startswith("fake:"):
            prepared = self._encoder.prepare(texts)
            found = self._encoder.compute(prepared, np.arange(len(texts), dtype=np.int32))
        else:
            found = self._encoder.queries(texts, self.spec.query_prompt)
            prepared = self._counted(texts)
        return _to_answer(self.spec, found, _cut(prepared))

    def _counted(self, texts: list[str]) -> Prepared:
        """The queries with their tokens counted."""
        if self._side is None:
            from .encoders.query_side import QuerySide

            self._side = QuerySide(self._encoder, self.spec.query_prompt)
        return self._side.prepare(texts)


def _plain(spec: PassSpec, files: ModelFiles, theirs: Fingerprint | None) -> PlainEncoder | None:
    """The encoder without torch, if there is one. Another model than the run's is refused by its files, in milliseconds."""
    own_code = spec.trust_remote_code
    if theirs is not None:
        _check_changed(spec, changed_files(theirs.files, identity(files.folder, own_code=own_code)))
    found = plain_encoder(spec, files)
    if isinstance(found, str) or (theirs is not None and theirs.pooling != found.pooling):
        return None  # sentence-transformers decides
    if theirs is not None:
        weights, before = hash_weights(files.folder, own_code=own_code)
        _check_weights(spec, weights, theirs.weights in (weights, before or weights), theirs)
    return found


def _check(spec: PassSpec, ours: Fingerprint, theirs: Fingerprint) -> None:
    """Raise ModelError if the loaded model is another one than the run's."""
    _check_weights(spec, ours.weights, ours.same_weights(theirs), theirs)
    pooling = f"{theirs.pooling} → {ours.pooling}" if theirs.weights and theirs.pooling != ours.pooling else ""
    _check_changed(spec, changed_files(theirs.files, ours.files) or [pooling][: len(pooling)])


def _check_weights(spec: PassSpec, ours: str, are_same: bool, theirs: Fingerprint) -> None:
    if not are_same:
        raise ModelError(
            f"model {spec.model} has other weights than the run was computed with "
            f"({ours[:12]}… here, {theirs.weights[:12]}… there)"
        )


def _check_changed(spec: PassSpec, found: list[str]) -> None:
    if found:
        raise ModelError(
            f"model {spec.model} has changed since the vectors of {spec.vector} were computed: {', '.join(found)}. A query "
            "encoded by it would be compared with vectors of another model: put it back, or compute the run anew (--restart)"
        )


def _to_answer(spec: PassSpec, found: Any, cut: list[int]) -> QueryAnswer:
    match spec.kind:
        case "bge-m3":
            dense, sparse, late = ([getattr(one, name) for one in found] for name in ("dense", "sparse", "colbert"))
            return QueryAnswer(vectors=_lists(dense), sparse=_pairs(sparse), multivectors=_lists(late), cut=cut)
        case "bm25" | "sparse":
            return QueryAnswer(sparse=_pairs(found), cut=cut)
        case "multivector":
            return QueryAnswer(multivectors=_lists(found), cut=cut)
        case _:
            return QueryAnswer(vectors=_lists(found), cut=cut)


def _cut(prepared: Prepared) -> list[int]:
    return prepared.cut.clip(min=0).tolist()


def _scores(encoder: Any, pairs: list[str]) -> QueryAnswer:
    """Scores of the pairs, in micro-batches that shrink on out-of-memory. NaN (null in JSON) if a single pair does not fit."""
    prepared = encoder.prepare(pairs)
    controller = AdaptiveBatchController(encoder.budget, _ignore_change)
    order = longest_first(prepared.lengths)
    scores = np.full(len(pairs), np.nan, np.float32)
    done = 0
    while done < len(order):
        rows = order[done : done + fitting(prepared.lengths, order, done, controller.tokens, pads=encoder.pads)]
        try:
            scores[rows] = encoder.compute(prepared, rows)
        except OutOfMemory:
            smaller = controller.out_of_memory(len(rows) * int(prepared.lengths[rows[0]]))
            if smaller and len(rows) > 1:
                continue
        done += len(rows)
    return QueryAnswer(scores=[*scores.tolist()], cut=_cut(prepared))


def _ignore_change(_reason: str, _before: int, _after: int) -> None:
    """Searches do not report changes of the budget."""


def _lists(arrays: Any) -> list[Any]:
    return [array.tolist() for array in arrays]


def _pairs(vectors: Any) -> list[SparseRow]:
    return [SparseRow(indices.tolist(), values.tolist()) for indices, values in vectors]
