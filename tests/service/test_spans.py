"""A collector that the test starts gets the spans of a run; one that is not there costs the run nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TEXTS = [f"a text about number {row}" for row in range(300)]


class Collector:
    """OTLP over HTTP: keeps every span, with its attributes as a dict."""

    def __init__(self) -> None:
        messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        self.spans: list[Any] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                request = messages.ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def named(self, name: str) -> list[Any]:
        return [one for one in self.spans if one.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    made = Collector()
    yield made
    made.close()


def told(span: Any) -> dict[str, Any]:
    """The span's attributes."""
    return {
        one.key.removeprefix("embedfleet."): getattr(one.value, one.value.WhichOneof("value"))
        for one in span.attributes
    }


def run(corpus: Path, out: Path, *more: str) -> tuple[str, ...]:
    return ("run", str(corpus), "--out", str(out), "--devices", "cpu", "--index", "none", *more)


def test_a_command_with_queries_is_one_trace(
    tmp_path: Path, corpus_of: Any, cli: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a variable of Python's, its processes are started by Python: a fork is done before its memory is looked at.
    monkeypatch.setenv("PYTHONUTF8", "1")
    corpus = corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    queries = corpus_of(tmp_path / "queries.jsonl", TEXTS[:3])
    asked = ("--queries", str(queries), "--rerank", "fake:8", "--candidates", "5", "--top-k", "2", "--export", "npy")
    out = tmp_path / "run"
    done = cli(
        "run", str(corpus), "--out", str(out), "--devices", "cpu", "--dense", "fake:8", *asked, "--otlp", collector.url
    )
    (whole,) = (one for one in collector.spans if one.parent_span_id == b"")
    assert (whole.name, told(whole)["source"]) == ("run", str(corpus))
    assert {one.trace_id for one in collector.spans} == {whole.trace_id}
    by_id = {one.span_id: one for one in collector.spans}
    below = {(one.name, by_id[one.parent_span_id].name) for one in collector.spans if one is not whole}
    stages = {"publish", "candidates", "ranking", "export"}
    chain = {("pass", "run"), ("lease", "pass"), ("batch", "lease")}
    assert below == chain | {(name, "run") for name in (*stages, "run")}
    derived = [one for one in collector.named("run") if one is not whole]
    assert [told(one)["source"] for one in derived] == [str(queries), str(out / "rerank" / "pairs.jsonl")]
    assert {one.parent_span_id for one in derived} == {whole.span_id}
    vectors = [told(one)["vector"] for one in collector.named("pass")]
    assert sorted(vectors) == ["dense-fake-8", "dense-fake-8", "rerank-fake-8"]
    found = {name: told(one) for name in stages for one in collector.named(name)}
    assert {name: one["rows"] for name, one in found.items()} == {
        "publish": 300,
        "candidates": 3,
        "ranking": 15,
        "export": 300,
    }
    assert all(one["memory.peak_bytes"] > 1_000_000 for one in found.values())
    assert (found["ranking"]["coverage"], found["ranking"]["fallbacks"]) == (1.0, 0)
    lines = done.err.splitlines()
    assert any("export: 300 rows, " in line and "memory" in line for line in lines), done.err
    assert any("candidates, fusion: 3 queries, " in line and "p50 / p95" in line for line in lines), done.err


def test_shards_that_are_queued_ahead_are_one_trace(
    tmp_path: Path, corpus_of: Any, cli: Any, collector: Collector
) -> None:
    corpus = corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    cli(*run(corpus, tmp_path / "run", "--dense", "fake:8", "--shards", "3", "--otlp", collector.url))
    first, *others = sorted(collector.named("run"), key=lambda one: one.start_time_unix_nano)
    assert [one.parent_span_id for one in (first, *others)] == [b"", first.span_id, first.span_id]
    assert {one.trace_id for one in collector.spans} == {first.trace_id}
    assert len(collector.named("lease")) == 3, "the worker stays, and each run has its part of the lease"


def test_spans_arrive_with_parents_attributes_and_memory(
    tmp_path: Path, corpus_of: Any, cli: Any, collector: Collector
) -> None:
    corpus = corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    models = ("--dense", "fake:8", "--dense", "fake:16,oom_above=600")
    cli(*run(corpus, tmp_path / "run", *models, "--otlp", collector.url))
    (whole,) = collector.named("run")
    passes = {told(one)["vector"]: one for one in collector.named("pass")}
    leases, batches = collector.named("lease"), collector.named("batch")
    assert passes.keys() == {"dense-fake-8", "dense-fake-16"}
    assert {one.trace_id for one in collector.spans} == {whole.trace_id}
    assert whole.parent_span_id == b""
    assert {one.parent_span_id for one in passes.values()} == {whole.span_id}
    assert {one.parent_span_id for one in leases} == {one.span_id for one in passes.values()}
    assert {one.parent_span_id for one in batches} == {one.span_id for one in leases}
    for vector, one in passes.items():
        mine = told(one)
        assert mine["rows"] == len(TEXTS)
        assert mine["memory.peak_bytes"] > 1_000_000
        assert mine["dtype"] == "float32"
        assert mine["placement"]
        assert mine["tokens"] == sum(told(batch)["tokens"] for batch in batches if told(batch)["vector"] == vector)
    assert all(told(one)["memory.peak_bytes"] > 1_000_000 for one in leases)
    assert all(told(one)["device"].startswith("cpu:0") for one in leases)
    assert told(whole)["status"] == "done"
    assert "mitigation" in {event.name for one in batches for event in one.events}


def test_a_collector_that_is_not_there_costs_two_seconds_at_most(tmp_path: Path, corpus_of: Any, cli: Any) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    corpus = corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    start = time.monotonic()
    cli(*run(corpus, tmp_path / "plain", "--dense", "fake:8"))
    plain, start = time.monotonic() - start, time.monotonic()
    done = cli(*run(corpus, tmp_path / "run", "--dense", "fake:8", "--otlp", "http://127.0.0.1:9"))
    assert time.monotonic() - start < plain + 2.0 + 5.0  # the last for a busy machine
    assert "not all could be sent to http://127.0.0.1:9/v1/traces" in done.err


def test_an_address_that_is_none_is_refused_before_anything_starts(tmp_path: Path, corpus_of: Any, cli: Any) -> None:
    corpus = corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    done = cli(*run(corpus, tmp_path / "run", "--dense", "fake:8", "--otlp", "here:4318"), code=2)
    assert "--otlp 'here:4318': give an http://" in done.error
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_has_its_spans_too(cli: Any, tmp_path: Path, collector: Collector) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "a text"}\n')
    cli(*run(corpus, tmp_path / "run", "--dense", "fake:8,load=raise", "--otlp", collector.url), code=1)
    (whole,) = collector.named("run")
    assert told(whole)["status"] == "failed"
