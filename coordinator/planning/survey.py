"""Survey a source before a run, as a child process of `embedfleet plan`.

    python -m embedfleet.coordinator.planning.survey < request.json

reads a SurveyRequest and writes a Survey or an error (`protocol/planning/answers.py`). It counts every record, reads
a sample of them by the run's own readers and conventions, and leaves the sample's rows in the folder of the request.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.planning.answers import answer
from ...protocol.planning.survey import Survey, SurveyRequest, sample_source, sample_table
from ...protocol.process import lifeline
from ...protocol.process.arrow import leave_out_pandas
from ...protocol.run_directory.records.intake import IntakeCounts
from ...protocol.source import corpus
from ...protocol.source.source_file import SourceFile
from ...protocol.spec.run_spec import RunSpec
from ...protocol.wire.devices import Device
from ..hosts.discovery import discover
from ..intake.chunk_batch import ChunkBatch
from ..intake.failure import check_usable
from ..runs.planner import segment_limits
from .chunk_files import ChunkFiles, write_chunks
from .even_sample import spread
from .sample_chunks import Outcome, SampleChunks
from .sampling import Sampled
from .sampling import sample_source as take_sample

LEAST_DUPLICATES = 30
"""In the sample, to estimate how many the source has: an estimate from fewer would be off by a fifth and more."""
_ANY_GPU = Device(uuid="planned", kind="cuda", name="planned", memory=0, threads=1, capability=(8, 0))


def survey(request: SurveyRequest) -> Survey:
    """Survey the source of the request. SourceError if it cannot be read, DeviceError for a device that is not there."""
    spec = request.spec
    devices = () if request.gpus else discover(request.devices, socket.gethostname())
    out = Path(request.out) if request.out else None
    found = corpus.survey(spec.source, out, spec.text_field)
    sampled = take_sample(found.files, request.sample_rows, spec.limit)
    chunks = SampleChunks(spec, found.files)
    outcomes = [chunks.take(part.sample.items) for part in sampled.parts]
    rows = sum(len(one.batch) for one in outcomes)
    exact = sampled.whole and (not sampled.cut or rows == spec.limit)
    counts = _counts(spec, sampled, outcomes, exact=exact)
    usable = IntakeCounts(
        segments=0, rows=counts.rows, rejected=counts.rejected, duplicates=counts.duplicates, complete=True
    )
    check_usable(spec, usable, chunks.maker.refused)
    batches = [outcome.batch for outcome in outcomes]
    files = _chunk_files(spec, found.files, sampled, batches, devices or (_ANY_GPU,))
    _write_sample(Path(request.folder), batches)
    return Survey(
        exact=exact,
        files=len(found.files),
        source_bytes=sum(file.size for file in found.files),
        records=sampled.records,
        looked_at=sum(one.looked_at for one in outcomes),
        rows=counts.rows,
        rejected=counts.rejected,
        duplicates=counts.duplicates,
        rare_duplicates=counts.rare,
        text_bytes=round(sum(one.text_bytes for one in outcomes) * counts.rows / max(rows, 1)),
        sampled_rows=rows,
        segments=files.segments if exact else -(-counts.rows // files.segment_rows),
        segment_rows=-(-rows // max(files.segments, 1)) if exact else files.segment_rows,
        chunk_bytes=round(files.n_bytes * counts.rows / max(files.rows, 1)),
        devices=devices,
        notes=tuple(filter(None, (found.left_out.line(),))),
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    rows: int
    rejected: int
    duplicates: int
    rare: bool = False


def _counts(spec: RunSpec, sampled: Sampled, outcomes: Sequence[Outcome], *, exact: bool) -> _Counts:
    """Rows, rejects and duplicates of the whole source.

    A duplicate is found only if both records are in the sample: the chance is the square of the sample's share.
    """
    twice, conflicts = sum(one.duplicates for one in outcomes), sum(one.conflicts for one in outcomes)
    if exact:
        rows, rejected = sum(len(one.batch) for one in outcomes), sum(one.rejected for one in outcomes)
        return _Counts(rows, rejected, twice)
    share = sum(one.looked_at for one in outcomes) / max(sampled.records, 1)
    rare = 0 < twice + conflicts < LEAST_DUPLICATES
    again, shared = (0.0, 0.0) if rare else (twice / share**2, conflicts / share**2)
    usable = refused = 0.0
    for part, one in zip(sampled.parts, outcomes, strict=True):
        weight = part.records / max(one.looked_at, 1)
        usable += weight * (len(one.batch) + one.duplicates + one.conflicts)
        refused += weight * (one.rejected - one.conflicts)
    rows = max(round(usable - again - shared), 1 if usable else 0)
    if spec.limit is not None:
        rows = spec.limit if sampled.cut else min(rows, spec.limit)
    return _Counts(rows, round(refused + shared), round(again), rare)


def _chunk_files(
    spec: RunSpec,
    files: Sequence[SourceFile],
    sampled: Sampled,
    batches: Sequence[ChunkBatch],
    devices: Sequence[Device],
) -> ChunkFiles:
    """The chunk segments of the whole source if it is the sample; else those of blocks of neighbouring records."""
    if not sampled.whole:
        apart = SampleChunks(spec, files)
        blocks = [block for part in sampled.parts for block in part.blocks.items]
        batches = [apart.take(block).batch for block in blocks]
    with tempfile.TemporaryDirectory(prefix="embedfleet-plan-") as folder:
        return write_chunks(Path(folder), segment_limits(spec, devices), batches, whole=sampled.whole)


def _write_sample(folder: Path, batches: Sequence[ChunkBatch]) -> None:
    whole = ChunkBatch()
    for batch in batches:
        whole.extend(batch)
    columns = {"id": whole.ids, "text": whole.texts, "metadata": whole.metadata}
    pq.write_table(pa.table({name: pa.array(one, pa.string()) for name, one in columns.items()}), sample_table(folder))
    # In the order of a hash: any beginning of it is an even sample, too.
    order = np.argsort(spread(np.arange(len(whole), dtype=np.uint64)), kind="stable")
    with sample_source(folder).open("wb") as lines:
        for place in order.tolist():
            id_, text, metadata = whole.ids[place], whole.texts[place], whole.metadata[place]
            about = b"" if metadata is None else b',"metadata":' + metadata.encode()
            lines.write(orjson.dumps({"id": id_, "text": text})[:-1] + about + b"}\n")


def main() -> int:
    """Answer the request on standard input."""
    lifeline.hold()
    leave_out_pandas()
    return answer(SurveyRequest, survey)


if __name__ == "__main__":
    sys.exit(main())
