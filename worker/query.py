"""`python -m embedfleet.worker.query`: encode queries for a search. Reads one QueryRequest from standard input, writes one
QueryAnswer to standard output."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec
import numpy as np

from ..protocol.errors import EmbedfleetError, ModelError
from ..protocol.process import lifeline
from ..protocol.spec.fingerprint import Fingerprint, changed_files
from ..protocol.spec.run_spec import PassSpec
from ..protocol.wire.query import QueryAnswer, QueryFailure, QueryRequest, SparseRow
from .adaptive_batch import AdaptiveBatchController
from .encoders.base import OutOfMemory, Prepared
from .encoders.query_side import QuerySide
from .token_budget import fitting, longest_first


def answer(request: QueryRequest) -> QueryAnswer:
    """The queries' vectors, or scores of pairs. ModelError if the model is not the one of the run."""
    from .encoders.choose import load_encoder  # queries are encoded by torch

    spec = request.spec
    if spec.kind != "bm25":
        # The run's vectors exist already, so its model is accepted whether or not it needs --normalize.
        spec = msgspec.structs.replace(spec, dtype="float32", average_length=None, normalize=True)
    if spec.model.startswith("fake:"):  # a fake model does not distinguish queries from documents
        spec = msgspec.structs.replace(spec, prompt=spec.query_prompt)
    encoder: Any = load_encoder(spec, "cpu", len(os.sched_getaffinity(0)))
    ours: Fingerprint = encoder.fingerprint
    if spec.kind == "rerank":
        return _scores(encoder, request.texts)
    theirs = request.fingerprint
    if theirs is not None and not ours.same_weights(theirs):
        raise ModelError(
            f"model {spec.model} has other weights than the run was computed with "
            f"({ours.weights[:12]}… here, {theirs.weights[:12]}… there)"
        )
    if theirs is not None and (found := _other_settings(ours, theirs)):
        raise ModelError(
            f"model {spec.model} has changed since the vectors of {spec.vector} were computed: {found}. A query encoded by it "
            "would be compared with vectors of another model: put it back, or compute the run anew (--restart)"
        )
    prepared: Prepared
    if spec.model.startswith("fake:"):
        prepared = encoder.prepare(request.texts)
        found = encoder.compute(prepared, np.arange(len(request.texts), dtype=np.int32))
    else:
        found = encoder.queries(request.texts, spec.query_prompt)
        prepared = QuerySide(encoder, spec.query_prompt).prepare(request.texts)
    return _to_answer(spec, found, _cut(prepared))


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


def _other_settings(ours: Fingerprint, theirs: Fingerprint) -> str:
    """The changed settings that the model's numbers depend on; empty if no change is known."""
    paths = changed_files(theirs.files, ours.files)
    if paths:
        return ", ".join(paths)
    return f"{theirs.pooling} → {ours.pooling}" if theirs.weights and theirs.pooling != ours.pooling else ""


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


def main() -> None:
    """Answer one request."""
    lifeline.hold()
    sys.stdout.buffer.write(reply_to(sys.stdin.buffer.read()))
    sys.stdout.flush()
    os._exit(0)


def reply_to(data: bytes) -> bytes:
    """The reply to a request. Every failure becomes a one-line error in it."""
    model = "the query encoder"
    try:
        request = msgspec.json.decode(data, type=QueryRequest)
        model = f"model {request.spec.model}"
        return msgspec.json.encode(answer(request))
    except (EmbedfleetError, msgspec.MsgspecError) as error:
        return _failure(type(error).__name__, str(error))
    except (OutOfMemory, MemoryError) as error:
        return _failure("EmbedfleetError", f"{model}: no memory to compute with it ({_summary(error)})")
    except Exception as error:  # noqa: BLE001 - whatever a model's own code or files can raise
        return _failure("EmbedfleetError", f"{model} failed: {type(error).__name__}: {_summary(error)}")


def _failure(kind: str, message: str) -> bytes:
    return msgspec.json.encode(QueryAnswer(error=QueryFailure(kind, message)))


def _summary(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:500]


if __name__ == "__main__":
    main()
