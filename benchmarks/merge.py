"""How long does a merge take, and does its memory grow? `python benchmarks/merge.py [--shards 250 1000] [--out FILE]`.

The shards are run directories with a dense vector of `--dim` dimensions and a sparse one, written by the project's own writers
from made-up numbers: one shard is written, and the others are that one with ids and rows of their own. A merge is `embedfleet
merge` as a user starts it. Its memory is flat when the most shards need no more than a tenth more than the fewest.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from embedfleet.exporter.run_directory.manifest import recount, write_manifest, write_quarantine
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.exporter.segments.writer import commit_segment
from embedfleet.protocol.run_directory.chunk_columns import write_chunks
from embedfleet.protocol.run_directory.json_bytes import pretty_json
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import FileStamp, IntakeRecord, SegmentLimits
from embedfleet.protocol.run_directory.records.passes import PassRecord
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, Passed
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA, with_info
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard
from machine import machine
from processes import embedfleet, watch

TERMS = 60
"""Terms of a sparse vector."""
TEXT = (
    "a chunk of some hundred characters, as they are in a corpus of documents that somebody has divided into parts. "
    * 4
)
SLACK_SHARE, SLACK_BYTES = 0.10, 20e6
TARGET_SECONDS = 60.0


def spec_of(dim: int, source: Path) -> RunSpec:
    passes = (
        PassSpec(vector="dense", kind="dense", model=f"fake:{dim}"),
        PassSpec(vector="sparse", kind="sparse", model="fake:30000"),
    )
    return RunSpec(source=str(source), passes=passes, index="none")


def write_shards(root: Path, count: int, rows: int, dim: int) -> None:
    """`count` shards of `rows` chunks each, all different."""
    layout = RunLayout(root)
    files = tuple(FileStamp(f"{index:05d}.jsonl", 1_000_000, 0) for index in range(count))
    record = ShardsRecord(shards=count, spec=spec_of(dim, root.parent / "source"), files=files)
    root.mkdir()
    layout.shards_record.write_bytes(pretty_json(record))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    indices = np.sort(rng.integers(0, 1 << 30, size=(rows, TERMS), dtype=np.uint32), axis=1)
    for index in range(count):
        _write_shard(record, layout.shard(index), index, vectors, indices)


def _write_shard(record: ShardsRecord, layout: RunLayout, index: int, vectors: Any, indices: Any) -> None:
    rows, dim = vectors.shape
    spec = msgspec.structs.replace(record.spec, shard=Shard(index, record.shards), index="none")
    for folder in (layout.chunks, layout.intake_folder, layout.passes, *map(layout.vector_folder, ("dense", "sparse"))):
        folder.mkdir(parents=True)
    layout.spec.write_bytes(pretty_json(spec))
    layout.source.write_bytes(msgspec.json.encode(record.files[index : index + 1]))
    layout.limits.write_bytes(msgspec.json.encode(SegmentLimits()))
    counts = IntakeRecord(segments=1, rows=rows, rejected=0, duplicates=0, complete=True, finished=("00",))
    layout.intake.write_bytes(msgspec.json.encode(counts))
    texts = [f"{index} {row} {TEXT}" for row in range(rows)]
    columns = [
        list(range(rows)),
        [f"s{index}-{row}" for row in range(rows)],
        texts,
        [json.dumps({"n": row}) for row in range(rows)],
        [len(text) for text in texts],
    ]
    table = pa.Table.from_arrays(
        [pa.array(one, field.type) for one, field in zip(columns, CHUNK_SCHEMA, strict=True)], schema=CHUNK_SCHEMA
    )
    info = ChunkSegmentInfo(
        segment=0,
        first_row=0,
        rows=rows,
        rejected=0,
        duplicates=0,
        n_bytes=sum(columns[4]),
        cursor=Cursor(records=rows),
        passed=Passed(n_bytes=1_000_000, digest="00"),
    )
    write_chunks(with_info(table, info), layout.chunk_segment(0))
    results: list[dict[str, Any]] = [
        {"vector": vectors},
        {
            "offsets": np.arange(0, rows * TERMS + 1, TERMS, dtype=np.int64),
            "indices": indices.reshape(-1),
            "values": np.ones(rows * TERMS, np.float32),
        },
    ]
    for one, arrays in zip(spec.passes, results, strict=True):
        _write_pass(layout, one, arrays, rows, dim if one.kind == "dense" else 0)
    found, passes = recount(layout, spec)
    write_quarantine(layout, spec)
    write_manifest(layout, spec, f"shard-{index}", found, passes, 0)


def _write_pass(layout: RunLayout, one: PassSpec, arrays: dict[str, Any], rows: int, dim: int) -> None:
    fingerprint = Fingerprint(
        model=one.model,
        revision="1",
        weights="",
        dtype="float32",
        max_tokens=512,
        prompt="",
        pooling="none",
        dim=dim,
        normalized=bool(dim),
        versions={},
    )
    about = PassRecord(
        vector=one.vector,
        kind=one.kind,
        form=one.outputs[0].form,
        fingerprint=fingerprint.digest(),
        **msgspec.structs.asdict(fingerprint),
        output_dim=dim,
    )
    layout.pass_file(one.vector).write_bytes(pretty_json(about))
    builder = SegmentBuilder(rows, one.outputs, [dim])
    each = {
        "positions": np.arange(rows, dtype=np.int32),
        "n_tokens": np.full(rows, 100, np.int32),
        "truncated": np.zeros(rows, np.uint8),
        "tokens_cut": np.zeros(rows, np.int32),
    }
    builder.add(each | arrays)
    commit_segment(layout, 0, fingerprint.digest(), builder)


def measure(folder: Path, count: int, rows: int, dim: int) -> dict[str, Any]:
    """One merge of so many shards, and the same once more."""
    root = folder / "run"
    begin = time.monotonic()
    write_shards(root, count, rows, dim)
    made = time.monotonic() - begin
    size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    watched = watch(embedfleet("merge", str(root), "--progress", "none"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = watch(embedfleet("merge", str(root), "--progress", "none"))
    merged = json.loads((root / "manifest.json").read_bytes())["counts"]
    assert merged["committed"] == count * rows, merged
    shutil.rmtree(root)
    return {
        "shards": count,
        "rows": count * rows,
        "bytes": size,
        "seconds": round(watched.seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "again_seconds": round(again.seconds, 2),
        "writing_shards_seconds": round(made, 2),
        "peak_bytes": watched.peak("merge"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, nargs="+", default=[250, 1_000])
    parser.add_argument("--rows", type=int, default=1_000, help="of each shard")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the shards are made; default: a temporary folder"
    )
    parser.add_argument("--out", type=Path, default=None)
    flags = parser.parse_args()
    found: list[dict[str, Any]] = []
    for count in flags.shards:
        with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
            found.append(measure(Path(folder), count, flags.rows, flags.dim))
        print(json.dumps(found[-1]))
    fewest, most = found[0]["peak_bytes"], found[-1]["peak_bytes"]
    flat = most <= max(fewest * (1 + SLACK_SHARE), fewest + SLACK_BYTES)
    report = {**machine(), "dim": flags.dim, "merges": found, "flat": flat, "target_seconds": TARGET_SECONDS}
    print(f"memory is {'flat' if flat else 'NOT flat'}: {fewest / 1e6:,.0f} MB, then {most / 1e6:,.0f} MB")
    if flags.out is not None:
        flags.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
