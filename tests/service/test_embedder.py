"""The Embedder end to end, as a notebook uses it."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import Embedder, EmbedfleetError
from embedfleet.client.steps.retrieval import Retrieval
from embedfleet.client.steps.session import Interrupted
from embedfleet.protocol.errors import RunDirectoryError, SpecMismatch, UsageError
from embedfleet.protocol.wire.control import Progress

from ..forked_commands import ForkedCommands

TEXTS = [f"a text about number {row}" + " and more" * (row % 7) for row in range(200)] + ["the zebra of row 200"]


@pytest.fixture
def forks(forked: ForkedCommands) -> Iterator[None]:
    """The processes that an Embedder starts are forks, as those of a command are."""
    with forked.children():
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, corpus_of: Any) -> Path:
    return corpus_of(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", TEXTS)


def test_every_step_of_a_notebook(tmp_path: Path, corpus: Path, fake_vectors: Any, capfd: Any) -> None:
    embedder = Embedder(tmp_path / "run", dense=["fake:8,oom_above=600", "fake:16"], sparse=["bm25"], devices="cpu")
    assert embedder.telemetry.gpu_lease_events == []
    assert embedder.processing_stats == {}
    assert embedder.load_chunks(corpus).records == 201
    seen: list[Progress] = []
    ending = embedder.generate_embeddings(seen.append)
    assert (ending.status, ending.chunks, ending.committed) == ("done", 201, 201)
    assert [one.coverage for one in ending.passes] == [1.0, 1.0, 1.0]
    assert all(one.dtype == "float32" and one.placement and one.peak_bytes for one in ending.passes)
    assert seen
    assert seen[-1].rows == 201
    np.testing.assert_array_equal(embedder.vectors("dense-fake-16"), fake_vectors(TEXTS, 16))
    phases = [one["phase"] for one in embedder.telemetry.gpu_lease_events if one["vector"] == "dense-fake-8"]
    assert phases == ["before", "staged", "hydrated", "peak", "after"]
    assert embedder.telemetry.mitigation_events[0]["vector"] == "dense-fake-8"
    assert {one["to"] for one in embedder.telemetry.rotation_events} == {"dense-fake-16", "sparse-bm25"}
    assert embedder.telemetry.batch_progress_events[0]["rows"] > 0
    assert embedder.telemetry.performance_events
    assert embedder.processing_stats["host"]["samples"] > 0
    (device,) = embedder.processing_stats["passes"]["dense-fake-16"].values()
    assert device["resident_bytes"]["max"] >= device["resident_bytes"]["mean"] >= device["resident_bytes"]["min"] > 0
    files = embedder.export_for_local_qdrant(formats=["npy", "jsonl"])
    assert {"collection.json", "points.jsonl", "stats.json"} <= files.keys()
    assert all(path.exists() for path in files.values())
    assert "processing_stats" in json.loads(files["stats.json"].read_bytes())
    assert embedder.search(TEXTS[-1], top_k=3)[0].text == TEXTS[-1]
    manifest = embedder.run.manifest
    assert manifest is not None
    assert all(one["placements"] and one["dtype"] == "float32" for one in manifest["passes"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("forks")
def test_queries_are_ranked_and_a_search_takes_every_option(tmp_path: Path, capfd: Any, monkeypatch: Any) -> None:
    pytest.importorskip("ir_measures")
    records = [{"id": f"c{row}", "text": text, "kind": ("even", "odd")[row % 2]} for row, text in enumerate(TEXTS)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": f"q{row}", "text": TEXTS[row]}) + "\n" for row in (3, 7)))
    qrels.write_text("query-id\tcorpus-id\tscore\nq3\tc3\t1\nq7\tc7\t1\n")
    embedder = Embedder(tmp_path / "run", dense=["fake:32"], sparse=["bm25"], rerank="fake:8", devices="cpu")
    embedder.load_chunks(tmp_path / "corpus.jsonl")
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        embedder.rank(queries)
    embedder.generate_embeddings()
    seen: list[Progress] = []
    ranking = embedder.rank(queries, qrels, candidates=20, top_k=3, progress=seen.append)
    assert seen
    assert [(one.query, one.rank) for one in ranking] == [(name, rank) for name in ("q3", "q7") for rank in (1, 2, 3)]
    first = ranking.of("q7")[0]
    assert (first.id, first.fallback, first.scores["rerank"]) == ("c7", False, pytest.approx(1.0))
    assert set(first.scores) == {"dense-fake-32", "sparse-bm25", "fused", "rerank"}
    assert ranking.of("nobody") == []
    assert ranking.evaluation is not None
    assert {one.name: one.scores["MRR@10"] for one in ranking.evaluation.rankings}["rerank"] == 1.0
    assert ranking.report is not None
    assert "nDCG@10" in ranking.report.read_text()
    leased = {(one["stage"], one["vector"]) for one in embedder.telemetry.gpu_lease_events}
    both = {(stage, name) for stage in ("corpus", "queries") for name in ("dense-fake-32", "sparse-bm25")}
    assert leased == both | {("rerank", "rerank-fake-8")}
    assert embedder.processing_stats["rerank"]["passes"].keys() == {"rerank-fake-8"}
    assert embedder.rerank_run is not None
    assert embedder.rerank_run["coverage"] == 1.0
    assert [one["live"] for one in embedder.sparse_run] == [len(TEXTS)]
    assert len(embedder.sparse_vectors["sparse-bm25"].indptr) == len(TEXTS) + 1
    scored = (tmp_path / "run" / "rerank" / "run" / "manifest.json").stat().st_mtime_ns
    fused = Embedder(tmp_path / "run", devices="cpu").rank(queries, candidates=20, top_k=1)  # a run of another day
    assert [one.scores["rerank"] for one in fused] == [None, None]
    assert (fused.evaluation, fused.report) == (None, None)
    assert (tmp_path / "run" / "rerank" / "run" / "manifest.json").stat().st_mtime_ns == scored
    with pytest.raises(UsageError, match="--top-k 30"):
        embedder.rank(queries, candidates=20, top_k=30)
    hits = embedder.search(TEXTS[8], 3, signals=["dense"], filters=[("kind", "odd")], rerank="fake:8")
    assert all(hit.metadata["kind"] == "odd" and hit.rerank is not None for hit in hits)
    assert set(hits[0].scores) == {"dense-fake-32"}

    def interrupted(*_: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(Retrieval, "run", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the same call resumes"):
        embedder.rank(queries)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("forks")
def test_inside_a_running_event_loop_and_off_the_main_thread(tmp_path: Path, corpus: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def embed(out: str) -> str:
        embedder = Embedder(tmp_path / out, dense=["fake:8"], devices="cpu", index="none")
        embedder.load_chunks(corpus)
        return f"{embedder.generate_embeddings().status} {threading.current_thread() is threading.main_thread()}"

    async def cell() -> list[str]:
        return [embed("here"), await asyncio.to_thread(embed, "there")]

    assert asyncio.run(cell()) == ["done True", "done False"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.usefixtures("forks")
def test_what_is_wrong_is_raised_as_its_own_type(tmp_path: Path, corpus: Path) -> None:
    embedder = Embedder(tmp_path / "run", dense=["fake:8"], devices="cpu", index="none")
    with pytest.raises(UsageError, match="call load_chunks"):
        embedder.generate_embeddings()
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        embedder.export_for_local_qdrant()
    embedder.load_chunks(corpus)
    embedder.generate_embeddings()
    with pytest.raises(UsageError, match="--format nonsense: not known"):
        embedder.export_for_local_qdrant(["nonsense"])
    other = Embedder(tmp_path / "run", dense=["fake:9"], devices="cpu", index="none")
    other.load_chunks(corpus)
    with pytest.raises(SpecMismatch, match="another spec"):
        other.generate_embeddings()
    nowhere = Embedder(tmp_path / "nowhere", dense=["fake:8"], devices="cuda:77", index="none")
    nowhere.load_chunks(corpus)
    with pytest.raises(EmbedfleetError, match="cuda"):
        nowhere.generate_embeddings()


@pytest.mark.usefixtures("forks")
def test_a_restart_is_for_the_first_run_alone(tmp_path: Path, corpus: Path) -> None:
    """What a failed run committed is to be resumed by the next call, as the error says."""
    options: dict[str, Any] = {"dense": ["fake:8", "fake:9,load=raise"], "devices": "cpu", "index": "none"}
    embedder = Embedder(tmp_path / "run", restart=True, **options)
    embedder.load_chunks(corpus)
    stamps: list[int] = []
    for _ in range(2):
        with pytest.raises(EmbedfleetError, match="out of luck"):
            embedder.generate_embeddings()
        (segment,) = (tmp_path / "run" / "vectors" / "dense-fake-8").glob("*.parquet")
        stamps.append(segment.stat().st_mtime_ns)
    assert stamps[0] == stamps[1]
