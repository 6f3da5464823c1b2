"""`python -m embedfleet.worker.query`: encode queries for a search. One JSON object in, one out, on standard streams.

In: `{"pass": PassSpec, "fingerprint": pass.json, "texts": […]}`. Out, by the pass's kind: `vectors` [[…]], `sparse`
[{"indices", "values"}] and `multivectors` [[[…]]], or `{"error": {"kind", "message"}}`. A reranker gets pairs as texts, needs
no fingerprint, and answers `scores` […], null where a score is not finite.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec
import numpy as np

from ..protocol import lifeline
from ..protocol.errors import EmbedfleetError, ModelError
from ..protocol.spec import PassSpec
from ..protocol.work_messages import Fingerprint
from .token_budget import fitting, longest_first


class QueryRequest(msgspec.Struct, frozen=True, rename={"spec": "pass"}):
    """What to encode and with which pass's model."""

    spec: PassSpec
    fingerprint: Fingerprint | None
    texts: list[str]


def answer(request: QueryRequest) -> dict[str, Any]:
    """The queries' vectors; ModelError where the model is not the one of the run."""
    from .encoders.choose import load_encoder

    spec = request.spec
    if spec.kind != "bm25":
        spec = msgspec.structs.replace(spec, dtype="float32", average_length=None)
    if spec.model.startswith("fake:"):  # a fake has one side
        spec = msgspec.structs.replace(spec, prompt=spec.query_prompt)
    encoder: Any = load_encoder(spec, "cpu", len(os.sched_getaffinity(0)))
    ours: Fingerprint = encoder.fingerprint
    if spec.kind == "rerank":
        return {"scores": _scores(encoder, request.texts)}
    theirs = request.fingerprint
    if theirs is not None and ours.weights != theirs.weights:
        raise ModelError(
            f"model {spec.model} has other weights than the run was computed with "
            f"({ours.weights[:12]}… here, {theirs.weights[:12]}… there)"
        )
    if spec.model.startswith("fake:"):
        prepared = encoder.prepare(request.texts)
        found = encoder.compute(prepared, np.arange(len(request.texts), dtype=np.int32))
    else:
        found = encoder.queries(request.texts, spec.query_prompt)
    match spec.kind:
        case "bge-m3":
            dense, sparse, late = ([getattr(one, name) for one in found] for name in ("dense", "sparse", "colbert"))
            return {"vectors": _lists(dense), "sparse": _pairs(sparse), "multivectors": _lists(late)}
        case "bm25" | "sparse":
            return {"sparse": _pairs(found)}
        case "multivector":
            return {"multivectors": _lists(found)}
        case _:
            return {"vectors": _lists(found)}


def _scores(encoder: Any, pairs: list[str]) -> list[float]:
    """In micro-batches by the encoder's own budget; msgspec writes what is not finite as null."""
    prepared = encoder.prepare(pairs)
    order = longest_first(prepared.lengths)
    scores = np.full(len(pairs), np.nan, np.float32)
    done = 0
    while done < len(order):
        rows = order[done : done + fitting(prepared.lengths, order, done, encoder.budget.initial)]
        scores[rows] = encoder.compute(prepared, rows)
        done += len(rows)
    return scores.tolist()


def _lists(arrays: Any) -> list[Any]:
    return [array.tolist() for array in arrays]


def _pairs(vectors: Any) -> list[dict[str, Any]]:
    return [{"indices": indices.tolist(), "values": values.tolist()} for indices, values in vectors]


def main() -> None:
    """Answer one request."""
    lifeline.hold()
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=QueryRequest)
        reply = answer(request)
    except (EmbedfleetError, msgspec.MsgspecError) as error:
        reply = {"error": {"kind": type(error).__name__, "message": str(error)}}
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
