"""`python -m embedfleet.worker.query`: encode queries for a search. One JSON object in, one out, on standard streams.

In: `{"pass": PassSpec, "fingerprint": pass.json, "texts": […]}`. Out: `{"vectors": [[…]]}`, or
`{"sparse": [{"indices": […], "values": […]}]}`, or `{"error": {"kind", "message"}}`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from ..protocol import lifeline
from ..protocol.errors import EmbedfleetError, ModelError
from ..protocol.spec import PassSpec
from ..protocol.work_messages import Fingerprint


class QueryRequest(msgspec.Struct, frozen=True, rename={"spec": "pass"}):
    """What to encode and with which pass's model."""

    spec: PassSpec
    fingerprint: Fingerprint
    texts: list[str]


def answer(request: QueryRequest) -> dict[str, Any]:
    """The queries' vectors; ModelError where the model is not the one of the run."""
    from .encoders.choose import load_encoder

    spec = msgspec.structs.replace(request.spec, dtype="float32" if request.spec.kind == "dense" else "auto")
    encoder: Any = load_encoder(spec, "cpu", len(os.sched_getaffinity(0)))
    ours: Fingerprint = encoder.fingerprint
    if ours.weights != request.fingerprint.weights:
        raise ModelError(
            f"model {spec.model} has other weights than the run was computed with "
            f"({ours.weights[:12]}… here, {request.fingerprint.weights[:12]}… there)"
        )
    if spec.kind == "bm25":
        found = encoder.queries(request.texts)
        return {"sparse": [{"indices": one.tolist(), "values": values.tolist()} for one, values in found]}
    if spec.model.startswith("fake:"):
        import numpy as np

        prepared = encoder.prepare(request.texts)
        return {"vectors": encoder.compute(prepared, np.arange(len(request.texts), dtype=np.int32)).tolist()}
    return {"vectors": encoder.queries(request.texts, None).tolist()}


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
