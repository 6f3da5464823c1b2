"""The parts of the Embedder that need no run: looking at a corpus, reading events, refusing what cannot be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import Embedder
from embedfleet.client.chunk_source import look_at_source
from embedfleet.client.run_telemetry import RunTelemetry
from embedfleet.protocol.errors import SourceError, UsageError
from embedfleet.protocol.layout import RunLayout


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


def test_models_and_options_that_no_run_can_follow_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a"}\n')
    with pytest.raises(UsageError, match="nothing to compute"):
        Embedder(tmp_path / "run").load_chunks(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="batch_size: no option"):
        Embedder(tmp_path / "run", dense=["fake:8"], batch_size=3).load_chunks(tmp_path / "a.jsonl")
    for name in ("queries", "qrels", "candidates", "top_k"):
        with pytest.raises(UsageError, match=rf"{name}: no option of an Embedder; give it to rank\(QUERIES\)"):
            Embedder(tmp_path / "run", dense=["fake:8"], **{name: "x"})
    assert repr(Embedder("/r", dense=["fake:8"], sparse=["bm25"])) == "Embedder('/r': fake:8, bm25)"
