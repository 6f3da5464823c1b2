"""One digest of everything that candidates are computed from: the vectors of a run, its queries and their vectors."""

from __future__ import annotations

import hashlib

import orjson

from ..run_directory.segment_info import VectorSegmentInfo
from ..run_directory.segment_stream import stream_batches
from ..run_directory.tables import read_info
from .done_run import DoneRun


def candidate_state(run: DoneRun, queries: DoneRun, head: bytes = b"") -> str:
    """A digest that changes with any vector of the run or of its queries, and with any query's text.

    It starts with `head`. RunDirectoryError if a file is missing or torn.
    """
    state = hashlib.blake2b(head, digest_size=16)
    for side in (run, queries):
        for name in side.names:
            for segment in side.segments:
                info = read_info(side.layout.vector_segment(name, segment), VectorSegmentInfo)
                state.update(f"{name} {info.fingerprint} {info.digest}\n".encode())
    for segment in queries.segments:  # texts too: pairs contain them, and different texts may have the same vector
        for batch in stream_batches(queries.layout.chunk_segment(segment), ("id", "text")):
            columns = (batch.column(name).to_pylist() for name in ("id", "text"))
            for one in zip(*columns, strict=True):
                state.update(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE))
    return state.hexdigest()
