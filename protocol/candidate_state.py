"""What candidates are made of: the vectors of a run, and its queries with their vectors and words, as one digest."""

from __future__ import annotations

import hashlib

import orjson

from .done_run import DoneRun
from .segment_info import VectorSegmentInfo
from .segment_stream import stream_batches
from .segments import read_info


def candidate_state(run: DoneRun, queries: DoneRun, head: bytes = b"") -> str:
    """Another one where a vector of the run or of its queries came, went or was computed again, or a query has other words.

    `head` is what else decides. RunDirectoryError where a file is missing or torn.
    """
    state = hashlib.blake2b(head, digest_size=16)
    for side in (run, queries):
        for name in side.names:
            for segment in side.segments:
                info = read_info(side.layout.vector_segment(name, segment), VectorSegmentInfo)
                state.update(f"{name} {info.fingerprint} {info.digest}\n".encode())
    for segment in queries.segments:  # texts too: several have one vector, and a pair has the text
        for batch in stream_batches(queries.layout.chunk_segment(segment), ("id", "text")):
            columns = (batch.column(name).to_pylist() for name in ("id", "text"))
            for one in zip(*columns, strict=True):
                state.update(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE))
    return state.hexdigest()
