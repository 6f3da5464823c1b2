"""Whole runs and shards of one corpus, computed in this process by fake encoders.

`make_shards` writes what `embedfleet run --shard` writes: `shards.json` and the run directory of each shard. Its shards are
whole files, each in a folder of its own, so that a test knows which records are where.
"""

from __future__ import annotations

import json
import select
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.exporter.run_directory.owned_directory import RunDirectory
from embedfleet.protocol.run_directory.chunk_columns import read_chunk_columns
from embedfleet.protocol.run_directory.json_bytes import pretty_json
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.source.check import fingerprint
from embedfleet.protocol.source.corpus import survey
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard
from embedfleet.protocol.statistics.run_stats import as_values
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.export import (
    ChunksDamaged,
    CloseRunMessage,
    ExportFailed,
    Rows,
    ScrubbedMessage,
    SourceRead,
)
from embedfleet.protocol.wire.work import RowError
from embedfleet.worker.encoders.choose import load_encoder

FOUR = SegmentLimits(rows=4)
BAD = "unusable"
"""A text with this word has no dense vector: its row is in quarantine."""
DENSE = PassSpec(vector="dense-fake-8", kind="dense", model=f"fake:8,nan_on={BAD}")
INT8 = PassSpec(vector="dense-int8", kind="dense", model="fake:16", storage="int8")
SPARSE = PassSpec(vector="sparse-fake", kind="sparse", model="fake:64")
MULTI = PassSpec(vector="multivector-fake", kind="multivector", model="fake:8")
HEADS = PassSpec(vector="heads-fake", kind="bge-m3", model="fake:8")


def write_files(folder: Path, files: int, rows: int, *, bad: bool = True) -> Path:
    """A folder of JSON lines: `rows` chunks in each file, with unique ids; with `bad`, some records that become no chunk."""
    folder.mkdir(parents=True)
    for file in range(files):
        lines = [{"id": f"f{file}c{row}", "text": f"text {row} of file {file}", "n": row} for row in range(rows)]
        if bad and file % 3 == 1:
            lines.insert(1, {"id": "nothing", "text": ""})
            lines.insert(2, lines[0])  # skipped as a duplicate
            lines.insert(3, {**lines[0], "text": "another text"})
            lines[-1]["text"] += f" {BAD}"
        put(folder / f"{file:02d}.jsonl", lines)
    return folder


def put(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def embed(spec: RunSpec, out: Path, limits: SegmentLimits = FOUR) -> Path:
    """Run a spec to its end, or resume it, with fake encoders. Of a shard, its source is read as a whole."""
    with patch("embedfleet.protocol.source.corpus.part_of", lambda files, _shard: list(files)):
        return _embed(spec, out, limits)


def _embed(spec: RunSpec, out: Path, limits: SegmentLimits) -> Path:
    runtime = ExportRuntime(RunDirectory(out, spec, restart=False), uuid.uuid4().hex)
    layout = RunLayout(out)
    try:
        while not any(isinstance(one, ScrubbedMessage | ChunksDamaged | ExportFailed) for one in runtime.take()):
            select.select([runtime.wake_fd], [], [])
        counts = ChunkLoader(spec, layout, limits, lambda _segment: None, lambda: False).load()
        encoders = [load_encoder(one, "cpu", 1) for one in spec.passes]
        for number, encoder in enumerate(encoders):
            runtime.begin_pass(number, encoder.fingerprint, f"here {out.name}")
        runtime.source_read(SourceRead(counts.segments))
        for number, encoder in enumerate(encoders):
            for segment in sorted(set(range(counts.segments)) - set(runtime.committed[number])):
                texts = read_chunk_columns(layout, segment, ("text",)).column("text").to_pylist()
                runtime.add(*_results(encoder, number, segment, texts))
        closed = runtime.close(CloseRunMessage("done", "", as_values(_no_stats())))
        assert not closed.problem, closed.problem
    finally:
        runtime._events.close()
        runtime._reports.close()
    return out


def make_shards(spec: RunSpec, root: Path, count: int, limits: SegmentLimits = FOUR) -> ShardsRecord:
    """Divide the files of `spec.source`, a folder, and run every shard below `root`."""
    record = begin_shards(spec, root, count)
    for index in range(count):
        make_shard(record, root, index, limits)
    return record


def begin_shards(spec: RunSpec, root: Path, count: int) -> ShardsRecord:
    """Write `shards.json`, and the parts of the source beside `root`."""
    files = survey(spec.source, root, None).files
    record = ShardsRecord(shards=count, spec=spec, files=tuple(fingerprint(files)))
    for index in range(count):
        folder = part_of(root, index)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files[index * len(files) // count : (index + 1) * len(files) // count]:
            assert file.path is not None
            shutil.copy2(file.path, folder / file.name)
    root.mkdir(exist_ok=True)
    RunLayout(root).shards_record.write_bytes(pretty_json(record))
    return record


def make_shard(record: ShardsRecord, root: Path, index: int, limits: SegmentLimits = FOUR) -> RunLayout:
    """Run one shard, or resume it."""
    layout = RunLayout(root).shard(index)
    layout.root.parent.mkdir(exist_ok=True)
    embed(shard_spec(record, root, index), layout.root, limits)
    return layout


def divide(spec: RunSpec, root: Path, count: int, limits: SegmentLimits = FOUR) -> ShardsRecord:
    """Run every shard of `spec.source` below `root`, each on the part that a real shard reads: of whole files and of parts."""
    record = ShardsRecord(shards=count, spec=spec, files=tuple(fingerprint(survey(spec.source, root, None).files)))
    RunLayout(root).shards.mkdir(parents=True)
    RunLayout(root).shards_record.write_bytes(pretty_json(record))
    for index in range(count):
        divided_shard(record, root, index, limits)
    return record


def divided_shard(record: ShardsRecord, root: Path, index: int, limits: SegmentLimits = FOUR) -> None:
    """Run one shard of those of `divide`."""
    spec = msgspec.structs.replace(record.spec, shard=Shard(index, record.shards), index="none")
    _embed(spec, RunLayout(root).shard(index).root, limits)


def shard_spec(record: ShardsRecord, root: Path, index: int) -> RunSpec:
    """What a shard computes."""
    shard = Shard(index, record.shards)
    return msgspec.structs.replace(record.spec, source=str(part_of(root, index)), shard=shard, index="none")


def part_of(root: Path, index: int) -> Path:
    """The part of the source that a shard reads."""
    return root.parent / f"{root.name}-parts" / str(index)


def _results(encoder: Any, number: int, segment: int, texts: list[str]) -> tuple[Rows, list[bytes]]:
    prepared, rows = encoder.prepare(texts), np.arange(len(texts), dtype=np.int32)
    part = encoder.compute(prepared, rows)
    bad = np.flatnonzero(encoder.unusable(part)).tolist()
    found = {
        "positions": rows,
        **encoder.gather(len(texts), [(rows, part)]),
        "n_tokens": prepared.lengths,
        "truncated": prepared.truncated.astype(np.uint8),
        "tokens_cut": prepared.cut,
    }
    headers, frames = arrays.pack(found)
    errors = tuple(RowError(row, "the result has NaN or infinity") for row in bad)
    return Rows(number, segment, len(texts), headers, errors), [bytes(frame) for frame in frames]


def _no_stats() -> Any:
    from embedfleet.protocol.statistics.run_stats import SessionStats

    return SessionStats(run="r")
