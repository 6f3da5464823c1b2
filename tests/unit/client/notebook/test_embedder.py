"""The parts of the Embedder that need no run: looking at a corpus, reading events, refusing what cannot be."""

from __future__ import annotations

import gzip
import inspect
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import Embedder
from embedfleet.client.notebook.chunk_source import look_at_source
from embedfleet.client.notebook.run_telemetry import RunTelemetry
from embedfleet.client.options.embedder_options import ARGUMENTS
from embedfleet.protocol.errors import SourceError, UsageError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import RunSpec


class TestSource:
    def test_lines_and_rows_are_counted(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text":"a"}\n{"text":"b"}\n')
        (tmp_path / "b.ndjson").write_text('{"text":"a"}\n{"text":"no end"}')
        pq.write_table(pa.table({"text": ["x", "y", "z"]}), tmp_path / "c.parquet")
        found = look_at_source(tmp_path, tmp_path / "run")
        assert (found.files, found.records) == (3, 7)
        assert found.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())

    def test_what_would_have_to_be_unpacked_is_not_counted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress(b'{"text":"a"}\n'))
        assert look_at_source(path, tmp_path / "run").records is None

    def test_the_run_directory_is_no_source(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "events.jsonl").write_text("{}\n")
        with pytest.raises(SourceError, match="holds no chunks"):
            look_at_source(tmp_path, tmp_path / "run")

    def test_what_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no such file"):
            look_at_source(tmp_path / "none", tmp_path / "run")
        with pytest.raises(UsageError, match="standard input"):
            look_at_source("-", tmp_path / "run")
        (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(SourceError, match=r"torn\.parquet: cannot be read"):
            look_at_source(tmp_path / "torn.parquet", tmp_path / "run")


def test_events_are_told_apart_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    kinds = ["lease", "mitigation", "rotation", "batch_progress", "performance", "run_closing"]
    lines = [json.dumps({"time": 1.0, "event": kind}) for kind in kinds]
    (tmp_path / "events.jsonl").write_text("\n".join([lines[0], '{"time": 1.0, "ev', *lines[1:], '{"torn']))
    telemetry = RunTelemetry(RunLayout(tmp_path))
    assert [one["event"] for one in telemetry.events()] == kinds
    assert [one["event"] for one in telemetry.gpu_lease_events] == ["lease"]
    assert [one["event"] for one in telemetry.mitigation_events] == ["mitigation"]
    assert [one["event"] for one in telemetry.rotation_events] == ["rotation"]
    assert [one["event"] for one in telemetry.batch_progress_events] == ["batch_progress"]
    assert [one["event"] for one in telemetry.performance_events] == ["performance"]


def test_after_ranking_the_events_and_samples_of_all_three_runs_are_read(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    for at, root in enumerate((tmp_path, layout.queries, layout.scores)):
        root.mkdir(parents=True, exist_ok=True)
        line = {"time": 10.0 - at, "event": "lease", "phase": "before"}
        RunLayout(root).events.write_text(json.dumps(line) + "\n")
        RunLayout(root).stats.write_text(json.dumps({"processing_stats": {"host": {"samples": at}, "passes": {}}}))
    leases = RunTelemetry(layout).gpu_lease_events
    assert [(one["stage"], one["time"]) for one in leases] == [("rerank", 8.0), ("queries", 9.0), ("corpus", 10.0)]
    stats = Embedder(tmp_path, dense="fake:4").processing_stats
    assert stats["host"]["samples"] == 0
    assert [stats[name]["host"]["samples"] for name in ("queries", "rerank")] == [1, 2]


def test_sparse_vectors_and_the_sections_of_the_manifest_are_read_back(tmp_path: Path, run_files: Any) -> None:
    files = run_files.RunFiles(tmp_path / "run").write()
    embedder = Embedder(files.root, sparse="bm25")
    assert (embedder.sparse_run, embedder.rerank_run) == ([], None)
    (name,) = embedder.sparse_vectors
    assert name == run_files.SPARSE
    assert embedder.sparse_vectors[name].indptr.tolist() == [0, 2, 2, 4, 6, 8]
    manifest = json.loads(files.layout.manifest.read_text())
    sections = msgspec.to_builtins(
        {"sparse_run": [run_files.sparse_run(name, 5)], "rerank_run": run_files.rerank_run(9)}
    )
    files.layout.manifest.write_text(json.dumps(manifest | sections))
    assert (embedder.sparse_run, embedder.rerank_run) == (sections["sparse_run"], sections["rerank_run"])


def test_the_arguments_that_a_refusal_lists_are_those_of_an_embedder() -> None:
    taken = inspect.signature(Embedder).parameters
    assert {*ARGUMENTS} == {*taken} - {"out", "options"}


def test_models_and_options_that_no_run_can_follow_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a"}\n')
    with pytest.raises(UsageError, match="nothing to compute"):
        Embedder(tmp_path / "run").load_chunks(tmp_path / "a.jsonl")
    with pytest.raises(
        UsageError, match=r"batch_size: no option of an Embedder; it takes dtype, .*, store, .*; and dense, "
    ):
        Embedder(tmp_path / "run", dense=["fake:8"], batch_size=3)
    for name in ("queries", "qrels", "candidates", "top_k"):
        with pytest.raises(UsageError, match=rf"{name}: no option of an Embedder; give it to rank\(QUERIES\)"):
            Embedder(tmp_path / "run", dense=["fake:8"], **{name: "x"})
    assert repr(Embedder("/r", dense=["fake:8"], sparse=["bm25"])) == "Embedder('/r': fake:8, bm25)"


def spec_of(tmp_path: Path, **options: Any) -> RunSpec:
    (tmp_path / "a.jsonl").write_text('{"text":"a"}\n')
    embedder = Embedder(tmp_path / "run", **options)
    embedder.load_chunks(tmp_path / "a.jsonl")
    assert embedder._spec is not None
    return embedder._spec


def test_the_names_of_the_command_line_and_of_the_fields_are_both_taken(tmp_path: Path) -> None:
    by_flag = spec_of(tmp_path, dense=["fake:8"], sparse="fake:50", store="int8", no_fallback=True)
    by_field = spec_of(tmp_path, dense=["fake:8"], sparse="fake:50", storage="int8", fallback=False)
    assert by_flag == by_field
    assert [(one.storage, one.fallback) for one in by_flag.passes] == [("int8", False), ("float32", False)]


def test_a_lone_name_is_a_list_of_one(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, dense="fake:8", sparse="bm25", multivector="fake:4", heads="bge-m3", ensemble="concat")
    names = ["dense-fake-8", "heads-bge-m3", "multivector-fake-4", "sparse-bm25"]
    assert [one.vector for one in spec.passes] == names
    assert [one.method for one in spec.ensembles] == ["concat"]
    assert spec_of(tmp_path, dense=["fake:8", "fake:9"], ensemble="concat", weights=[2, 1]).ensembles[0].weights == (
        2,
        1,
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"limit": "ten"}, "limit='ten': expected `int | null`, got `str`"),
        ({"max_tokens": 2.5}, "max_tokens=2.5: expected `int | null`, got `float`"),
        ({"store": "int4"}, "store='int4': give float32 or float16 or int8 or binary"),
        ({"store": "int8", "storage": "int8"}, "storage: given twice, as store and as storage"),
        ({"no_fallback": "yes"}, "no_fallback='yes': expected `bool`"),
        ({"dense": 7}, "dense=7: give a name, or a list of names"),
        ({"sparse": ["bm25", None]}, "sparse=.*: give a name, or a list of names"),
        ({"ensemble": "sum"}, r"ensemble=\['sum'\]: give concat or average"),
        ({"batch_timeout": "1"}, "batch_timeout='1': expected `float | null`"),
        ({"sparse_device": "tpu"}, "sparse_device='tpu': give auto or cpu or gpu"),
        ({"devices": 0}, "devices=0: expected `str | null`"),
        ({"restart": "yes"}, "restart='yes': expected `bool`"),
    ],
)
def test_an_option_that_cannot_be_meant_is_named(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Embedder(tmp_path / "run", **options)
