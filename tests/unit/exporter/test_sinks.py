from __future__ import annotations

import ast
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.client.steps import export as export_client
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.exporter.formats import table
from embedfleet.exporter.formats.upload_script import SOURCE
from embedfleet.exporter.formats.writers import WRITERS
from embedfleet.exporter.index.edge_index import EdgeIndex
from embedfleet.protocol.errors import EmbedfleetError, RunDirectoryError, UsageError
from embedfleet.protocol.finished_run import npy_file
from embedfleet.protocol.finished_run.done_run import open_done_run
from embedfleet.protocol.finished_run.point_ids import point_id
from embedfleet.protocol.index.collection import collection_schema
from embedfleet.protocol.spec.export_formats import FORMATS

ROWS = 7


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(
        tmp_path / "my run", sizes=(3, 4), quarantined=(4,), sparse_quarantined=(0,), stood_in=(5,), multivector=True
    ).write()


def export(files, *formats, quantization=None):
    return {
        one.name: one
        for one in ExportRuntime.export_for_local_qdrant(files.root, formats, quantization, lambda _file: None).files
    }


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_formats_are_written_and_recorded(files):
    said = []
    files.layout.stats.write_text("{}")
    record = ExportRuntime.export_for_local_qdrant(files.root, (), None, said.append)
    names = {one.name: (one.format, one.rows) for one in record.files}
    assert names == {
        "collection.json": ("collection", 0),
        "metadata.jsonl": ("metadata", 7),
        "dense-fake.npy": ("npy", 7),
        "sparse-bm25.sparse.jsonl": ("sparse-jsonl", 6),
        "multivector-fake.multivector.jsonl": ("multivector-jsonl", 6),
        "points.jsonl": ("jsonl", 7),
        "stats.json": ("stats", 0),
        "table/00000.parquet": ("parquet", 7),
        "upload_to_qdrant.py": ("upload-script", 0),
    }
    assert {one.name for one in said} == names.keys()
    on_disk = json.loads(files.layout.export_record.read_bytes())
    assert on_disk["rows"] == ROWS
    for one in on_disk["files"]:
        content = (files.layout.export / one["name"]).read_bytes()
        assert (one["bytes"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    written = {path for path in files.layout.export.rglob("*") if path.is_file()}
    assert {str(path.relative_to(files.layout.export)) for path in written} == {*names, "export.json"}
    assert [path.name for path in files.layout.table.iterdir()] == ["00000.parquet"]


@pytest.mark.parametrize(
    ("storage", "rounding"), [("float32", 2e-7), ("float16", 1e-3), ("int8", 2e-7), ("binary", 2e-7)]
)
def test_jsonl_npy_and_the_edge_shard_hold_the_same_numbers(run_files, tmp_path, storage, rounding):
    """`rounding`: the engine normalizes what it takes for a cosine, and keeps float16 as such."""
    edge = pytest.importorskip("qdrant_edge")
    files = run_files.RunFiles(
        tmp_path / "run", sizes=(40, 30), quarantined=(4, 50), sparse_quarantined=(7,), dim=32, storage=storage,
        multivector=True, ensemble=True,
    )  # fmt: skip
    files.write()
    export(files)
    index = EdgeIndex(files.layout, files.spec)
    dense = {run_files.DENSE: 32, run_files.HALF: 16, run_files.CONCAT: 48}
    dims = dense | {run_files.SPARSE: 0, run_files.MULTI: 32}
    assert sum(index.publish(segment, dims) for segment in (0, 1)) == 70
    index.close()
    shard = edge.EdgeShard.load(str(files.layout.edge))
    records = {
        record.payload["row"]: record
        for record in shard.retrieve([point_id(f"c{row}") for row in range(70)], with_payload=True, with_vector=True)
    }
    shard.close()
    arrays = {name: np.load(files.layout.export / f"{name}.npy", mmap_mode="r") for name in dense}
    points = lines(files.layout.export / "points.jsonl")
    assert {name: array.shape for name, array in arrays.items()} == {name: (70, dim) for name, dim in dense.items()}
    assert len(records) == len(points) == 70
    for row, point in enumerate(points):
        in_shard = records[row]
        assert (point["id"], point["payload"]) == (str(in_shard.id), in_shard.payload)
        absent = {*dense, run_files.MULTI} if row in (4, 50) else {run_files.SPARSE} if row in (1, 7) else set()
        assert point["vector"].keys() == in_shard.vector.keys() == dims.keys() - absent
        for name, array in arrays.items():
            if name in absent:
                assert np.isnan(array[row]).all()
                continue
            assert np.array_equal(np.asarray(point["vector"][name], np.float32), array[row])  # to the bit
            room = 2e-7 if name == run_files.CONCAT else rounding  # which is float32 whatever its members are
            assert np.allclose(in_shard.vector[name], array[row] / np.linalg.norm(array[row]), rtol=0, atol=room)
        if run_files.SPARSE not in absent:
            theirs, ours = in_shard.vector[run_files.SPARSE], point["vector"][run_files.SPARSE]
            assert dict(zip(ours["indices"], ours["values"], strict=True)) == dict(
                zip(theirs.indices, theirs.values, strict=True)
            )
        if run_files.MULTI not in absent:
            tokens = run_files.multi_of(row, 32)
            assert np.array_equal(np.asarray(point["vector"][run_files.MULTI], np.float16), tokens)
            units = tokens / np.linalg.norm(tokens.astype(np.float32), axis=1, keepdims=True)
            assert np.allclose(in_shard.vector[run_files.MULTI], units, rtol=0, atol=1e-3)


def test_sidecars_have_a_line_for_each_vector(files, run_files):
    export(files, "sparse-jsonl", "multivector-jsonl", "metadata")
    sparse = lines(files.layout.export / "sparse-bm25.sparse.jsonl")
    assert [(one["row"], one["id"]) for one in sparse] == [(row, f"c{row}") for row in range(1, 7)]
    assert all((one["indices"], one["values"]) == run_files.sparse_of(one["row"]) for one in sparse)
    assert [one["stood_in"] for one in sparse] == [one["row"] == 5 for one in sparse]
    many = lines(files.layout.export / "multivector-fake.multivector.jsonl")
    assert [one["row"] for one in many] == [0, 1, 2, 3, 5, 6]
    for one in many:
        assert np.array_equal(np.asarray(one["vectors"], np.float16), run_files.multi_of(one["row"]))
    assert lines(files.layout.export / "metadata.jsonl")[5] == {"row": 5, "id": "c5", "metadata": {"n": 5}}


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "binary"])
def test_the_table_has_every_vector_of_each_row(run_files, tmp_path, storage, monkeypatch):
    monkeypatch.setattr(table, "PART_ROWS", 70)
    monkeypatch.setattr(table, "GROUP_ROWS", 16)
    files = run_files.RunFiles(
        tmp_path / "run", sizes=(40, 30, 20), quarantined=(4, 50), sparse_quarantined=(7,), dim=32, storage=storage,
        multivector=True,
    ).write()  # fmt: skip
    export(files, "parquet", "npy")
    parts = sorted(files.layout.table.iterdir())
    assert [(path.name, pq.read_metadata(path).num_rows) for path in parts] == [
        ("00000.parquet", 70),
        ("00001.parquet", 20),
    ]
    assert max(pq.read_metadata(parts[0]).row_group(group).num_rows for group in range(5)) == 16
    found = pq.read_table(files.layout.table)
    assert found.column_names == [
        *("row", "id", "text", "metadata", "dense-fake", "sparse-bm25.indices", "sparse-bm25.values"),
        "multivector-fake",
    ]
    assert found.schema.field("dense-fake").type == pa.list_(pa.float32(), 32)
    dense = np.load(files.layout.export / "dense-fake.npy")
    for row, one in enumerate(found.to_pylist()):
        assert (one["row"], one["id"], one["text"], one["metadata"]) == (
            row,
            f"c{row}",
            f"text {row}",
            f'{{"n": {row}}}',
        )
        if row in (4, 50):
            assert (one["dense-fake"], one["multivector-fake"]) == (None, None)
        else:
            assert one["dense-fake"] == dense[row].tolist()
            assert one["multivector-fake"] == run_files.multi_of(row, 32).tolist()
        indices, values = (None, None) if row == 7 else run_files.sparse_of(row)
        assert (one["sparse-bm25.indices"], one["sparse-bm25.values"]) == (indices, values)


def test_a_table_that_is_broken_off_leaves_the_one_before(files, monkeypatch):
    export(files, "parquet")
    before = (files.layout.table / "00000.parquet").read_bytes()

    def torn(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(table.os, "fsync", torn)
    with pytest.raises(KeyboardInterrupt):
        next(table.write_table(open_done_run(files.root), files.layout.export))
    assert [path.name for path in files.layout.export.iterdir() if "table" in path.name] == ["table"]
    assert (files.layout.table / "00000.parquet").read_bytes() == before


def test_the_collection_is_described(files, run_files):
    export(files, "jsonl", quantization="scalar")
    described = json.loads((files.layout.export / "collection.json").read_bytes())
    assert (described["name"], described["points"]) == ("my-run", ROWS)
    assert described["create"]["vectors"] == {
        run_files.DENSE: {"size": 4, "distance": "Cosine"},
        run_files.MULTI: {
            "size": 4,
            "distance": "Cosine",
            "datatype": "float16",
            "multivector_config": {"comparator": "max_sim"},
            "hnsw_config": {"m": 0},
        },
    }
    assert described["create"]["sparse_vectors"] == {run_files.SPARSE: {"modifier": "idf"}}
    assert described["create"]["quantization_config"]["scalar"]["type"] == "int8"


@pytest.mark.parametrize(
    ("storage", "datatype"), [("float32", None), ("float16", "float16"), ("int8", None), ("binary", None)]
)
def test_the_collection_has_the_number_format_of_the_shard(files, run_files, storage, datatype):
    dense, *others = files.spec.passes
    changed = msgspec.structs.replace(files.spec, passes=(msgspec.structs.replace(dense, storage=storage), *others))
    files.layout.spec.write_bytes(msgspec.json.encode(changed))
    described = collection_schema(open_done_run(files.root))["vectors"]
    assert described[run_files.DENSE].get("datatype") == datatype
    assert described[run_files.DENSE].get("hnsw_config") is None
    assert described[run_files.MULTI]["datatype"] == "float16"


def quantized(files):
    return json.loads(files.layout.collection.read_bytes())["create"]["quantization_config"]


def test_a_later_export_keeps_the_quantization_until_it_is_switched_off(files):
    export(files, "jsonl")
    assert quantized(files) is None
    export(files, "jsonl", quantization="scalar")
    export(files, "metadata")
    assert quantized(files)["scalar"]["type"] == "int8"
    export(files, "metadata", quantization="none")
    assert quantized(files) is None
    files.layout.collection.write_text("[]")
    with pytest.raises(
        RunDirectoryError, match=r"collection\.json: cannot be read .*say --quantization none or scalar"
    ):
        export(files, "metadata")
    export(files, "metadata", quantization="scalar")


def test_the_command_hands_the_quantization_on(files, capfd):
    for given, kept in (("scalar", True), (None, True), ("none", False)):
        assert export_client.export(files.root, ["metadata"], given, as_json=True) == 0
        assert (quantized(files) is not None) is kept
    capfd.readouterr()


def test_a_later_export_keeps_the_other_formats(files):
    assert export(files, "npy").keys() == {"collection.json", "dense-fake.npy"}
    assert export(files, "metadata").keys() == {"collection.json", "dense-fake.npy", "metadata.jsonl"}
    (files.layout.export / "dense-fake.npy").unlink()
    assert export(files, "metadata").keys() == {"collection.json", "metadata.jsonl"}
    for path in list(files.layout.export.iterdir()):
        path.unlink()
    assert export(files, "upload-script").keys() == {"collection.json", "points.jsonl", "upload_to_qdrant.py"}


def test_what_cannot_be_exported(files, run_files, tmp_path):
    with pytest.raises(UsageError, match="--format csv: not known; give one or more of jsonl, npy"):
        export(files, "csv")
    plain = run_files.RunFiles(tmp_path / "plain").write()
    with pytest.raises(UsageError, match="--format multivector-jsonl: this run has no multivector vectors"):
        export(plain, "multivector-jsonl")
    assert not plain.layout.export.exists()
    plain.layout.manifest.unlink()
    with pytest.raises(RunDirectoryError, match="the run is not done"):
        export(plain)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        ExportRuntime.export_for_local_qdrant(tmp_path, (), None, print)
    assert not (tmp_path / ".lock").exists()


def test_one_writer_at_a_time(files):
    with files.layout.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunDirectoryError, match="another run is writing there"):
            export(files)
    export(files)


def test_a_full_disk_leaves_no_file(files, monkeypatch):
    def full(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(npy_file.os, "posix_fallocate", full)
    with pytest.raises(EmbedfleetError, match="No space left on device; make room and export again"):
        export(files)
    recorded = {one["name"] for one in json.loads(files.layout.export_record.read_bytes())["files"]}
    assert recorded == {"collection.json", "points.jsonl"}  # what stood before is on record
    assert {path.name for path in files.layout.export.iterdir()} == {*recorded, "export.json"}


def test_other_rows_than_the_chunks_are_refused(files, run_files):
    files.vector_segment(run_files.DENSE, 1, files.dense_table(1).slice(0, 2))
    with pytest.raises(RunDirectoryError, match="rows are not those of its chunk segment"):
        export(files, "npy")
    with pytest.raises(RunDirectoryError, match="the files of segment 1 do not fit together"):
        export(files, "parquet")


def test_an_empty_corpus_is_exported(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", sizes=()).write()
    assert export(files)["points.jsonl"].rows == 0


@pytest.fixture
def script(files):
    """The script as a module, exported with its points."""
    pytest.importorskip("qdrant_client")
    export(files, "upload-script")
    path = files.layout.export / SOURCE.name
    assert path.stat().st_mode & 0o111
    spec = importlib.util.spec_from_file_location("embedfleet_test_upload_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_upload_script_loads_a_collection_twice(files, run_files, script):
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    for _ in range(2):
        assert script.load(client, files.layout.export, poll_seconds=0) == ROWS
    assert client.count("my-run").count == ROWS
    ours = {point.id: point for point in open_done_run(files.root).points()}
    for record in client.retrieve("my-run", list(ours), with_vectors=True):
        assert record.payload == ours[record.id].payload
        assert record.vector.keys() == ours[record.id].vectors.keys()
        if run_files.MULTI in record.vector:  # the engine normalizes every token
            tokens = run_files.multi_of(record.payload["row"]).astype(np.float32)
            tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
            assert np.allclose(record.vector[run_files.MULTI], tokens, atol=1e-6)
    client.close()


def test_the_script_takes_no_vectors_away(files, run_files, script):
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    script.load(client, files.layout.export, poll_seconds=0)
    part = run_files.RunFiles(files.root.parent / "part", sizes=(3, 4)).write()
    export(part, "upload-script")
    with pytest.raises(SystemExit, match=rf"vectors that these points lack \({run_files.MULTI}\)"):
        script.load(client, part.layout.export, "my-run", poll_seconds=0)
    client.create_collection("U", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    with pytest.raises(SystemExit, match=r"lack \(\(unnamed\)\)"):
        script.load(client, part.layout.export, "U", poll_seconds=0)
    client.close()


def test_the_script_writes_over_no_other_corpus(files, script):
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    points = files.layout.export / "points.jsonl"
    lines = [json.loads(line) for line in points.read_text().splitlines()]
    for row, line in enumerate(lines):
        line["payload"]["id"] = f"corpus.jsonl#{row + 1}"
    described = files.layout.export / "collection.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"source_files": ["corpus.jsonl"]}))
    points.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        assert script.load(client, files.layout.export, poll_seconds=0) == ROWS
    lines[1]["payload"]["text"] = "of another corpus"
    points.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SystemExit, match=r"'corpus.jsonl#2' is there with another text.*--replace"):
        script.load(client, files.layout.export, poll_seconds=0)
    assert script.load(client, files.layout.export, poll_seconds=0, replace=True) == ROWS
    assert client.retrieve("my-run", [lines[1]["id"]])[0].payload["text"] == "of another corpus"
    client.close()


def test_the_script_leaves_the_index_on_where_switching_it_off_fails(files, script, monkeypatch):
    from qdrant_client import QdrantClient

    asked: list[int] = []

    def lost(_name, optimizers_config):
        asked.append(optimizers_config.indexing_threshold)
        if not asked[-1]:
            raise KeyboardInterrupt

    client = QdrantClient(":memory:")
    monkeypatch.setattr(client, "update_collection", lost)
    with pytest.raises(KeyboardInterrupt):
        script.load(client, files.layout.export, poll_seconds=0)
    assert asked == [0, 20_000]
    client.close()


def test_the_script_without_its_library_says_what_to_install(files, tmp_path):
    export(files, "upload-script")
    (tmp_path / "qdrant_client.py").write_text("raise ModuleNotFoundError(\"No module named 'qdrant_client'\")\n")
    done = subprocess.run(
        [sys.executable, files.layout.export / SOURCE.name],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "needs qdrant-client (No module named 'qdrant_client'): pip install 'qdrant-client>=1.16'" in line


def test_the_script_needs_nothing_of_this_package():
    nodes = list(ast.walk(ast.parse(SOURCE.read_text())))
    named = [one.name for node in nodes if isinstance(node, ast.Import) for one in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {name.split(".")[0] for name in named}
    assert imported - sys.stdlib_module_names == {"qdrant_client"}


def test_the_command_starts_the_exporter(files, capfd):
    assert export_client.export(files.root, ["npy", "metadata"], None, as_json=True) == 0
    out, err = capfd.readouterr()
    assert {one["name"] for one in json.loads(out)["files"]} == {"collection.json", "dense-fake.npy", "metadata.jsonl"}
    assert "dense-fake.npy: 7 rows, " in err
    assert export_client.export(files.root, ["csv"], None, as_json=True) == 2
    out, err = capfd.readouterr()
    assert (out, err) == (
        "",
        f"embedfleet: error: --format csv: not known; give one or more of {', '.join(WRITERS)}, or all\n",
    )


def test_every_format_has_a_writer():
    assert list(WRITERS) == list(FORMATS)
