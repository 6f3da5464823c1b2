"""A run as spans: who is whose child, what they say, and how they end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from embedfleet.coordinator.core.actions import SendBatch
from embedfleet.coordinator.telemetry import otlp
from embedfleet.coordinator.telemetry.otlp import SpanExport, traces_endpoint
from embedfleet.coordinator.telemetry.tracker import TelemetryTracker
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.control import StageDone
from embedfleet.protocol.wire.devices import MemorySample, PerformanceSample
from embedfleet.protocol.wire.work import Mitigation, Result, Timings

SPEC = RunSpec(source="/c.jsonl", passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),))


class TestEndpoint:
    def test_the_flag_is_a_base_address(self) -> None:
        assert traces_endpoint("http://here:4318", {}) == "http://here:4318/v1/traces"
        assert traces_endpoint("http://here:4318/", {}) == "http://here:4318/v1/traces"
        assert traces_endpoint("http://here/v1/traces", {}) == "http://here/v1/traces"

    def test_the_variables_of_opentelemetry_count(self) -> None:
        base = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://base:1"}
        assert traces_endpoint(None, {}) is None
        assert traces_endpoint(None, base) == "http://base:1/v1/traces"
        assert traces_endpoint(None, base | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}) == "http://t/x"
        assert traces_endpoint("http://flag", base) == "http://flag/v1/traces"
        assert traces_endpoint(None, base | {"OTEL_SDK_DISABLED": "true"}) is None

    def test_what_is_no_address_is_refused(self) -> None:
        with pytest.raises(UsageError, match="--otlp 'here:4318': give an http"):
            traces_endpoint("here:4318", {})
        with pytest.raises(UsageError, match="--otlp '': give an http"):
            traces_endpoint("", {})


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk", None)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(UsageError, match=r"embedfleet\[otel\]"):
        SpanExport("http://here/v1/traces")


@pytest.fixture
def finished() -> Any:
    """An exporter that keeps the spans."""
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    return memory.InMemorySpanExporter()


@pytest.fixture
def spans_of(finished: Any) -> Callable[[Callable[[TelemetryTracker], None]], list[Any]]:
    """The spans of a run that is told to a tracker by a function."""

    def make(tell: Callable[[TelemetryTracker], None]) -> list[Any]:
        export = SpanExport("http://nowhere/v1/traces", finished)
        tracker = TelemetryTracker(SPEC.passes, lambda *_: None, export.run("run-1", SPEC))
        tell(tracker)
        export.close()
        return list(finished.get_finished_spans())

    return make


def memory_of(phase: str, used: int, source: str) -> MemorySample:
    return MemorySample(phase=phase, used=used, total=100, source=source)


def lease(tracker: TelemetryTracker, worker: str = "w0") -> None:
    tracker.lease("before", worker, "gpu", 0, memory_of("before", 1, "nvml"), pid=1)
    tracker.lease("staged", worker, "gpu", 0, None, model="fake:8", dtype="bfloat16")
    tracker.lease("hydrated", worker, "gpu", 0, memory_of("hydrated", 20, "nvml"), placement="cuda:0 bfloat16")


def send(tracker: TelemetryTracker, batch: int, worker: str = "w0") -> None:
    tracker.batch_sent(SendBatch(worker, 1, batch, "run-1", 0, 7, 10, 14), "gpu", time.monotonic())


def done(tracker: TelemetryTracker, batch: int) -> None:
    result = Result(batch, 1, 40, 48, Timings(0.1, 0.2, 0.3), ())
    tracker.result(0, "gpu", 4, 40, result, time.monotonic())


def by_name(spans: list[Any], name: str) -> list[Any]:
    return [one for one in spans if one.name == name]


def test_run_pass_lease_and_batch_stand_below_each_other(spans_of: Any) -> None:
    def tell(tracker: TelemetryTracker) -> None:
        lease(tracker)
        send(tracker, 1)
        tracker.mitigation(0, "gpu", "w0", Mitigation("out_of_memory", 64, 32))
        done(tracker, 1)
        tracker.performance(0, "gpu", "w0", PerformanceSample(resident_bytes=5, gpu_bytes=70))
        tracker.lease("peak", "w0", "gpu", 0, memory_of("peak", 60, "torch"))
        tracker.lease("after", "w0", "gpu", 0, memory_of("after", 1, "nvml"), released=True)
        tracker.event("run_closing", status="done", error="")
        tracker.over("done", "")

    spans = spans_of(tell)
    assert [one.name for one in spans] == ["batch", "lease", "pass", "run"]
    batch, leased, passed, run = spans
    assert batch.parent.span_id == leased.context.span_id
    assert leased.parent.span_id == passed.context.span_id
    assert passed.parent.span_id == run.context.span_id
    assert run.parent is None
    assert len({one.context.trace_id for one in spans}) == 1
    told = {name.removeprefix("embedfleet."): value for name, value in batch.attributes.items()}
    assert (told["vector"], told["model"], told["device"]) == ("dense-a", "fake:8", "gpu")
    assert (told["rows"], told["tokens"], told["padded_tokens"], told["segment"]) == (4, 40, 48, 7)
    assert [one.name for one in batch.events] == ["mitigation"]
    assert batch.events[0].attributes["embedfleet.to"] == 32
    assert [one.name for one in leased.events] == ["before", "staged", "hydrated", "peak", "after"]
    assert leased.attributes["embedfleet.gpu.memory.peak_bytes"] == 70
    assert leased.attributes["embedfleet.memory.peak_bytes"] == 5
    assert leased.attributes["embedfleet.dtype"] == "bfloat16"
    assert passed.attributes["embedfleet.placement"] == "cuda:0 bfloat16"
    assert passed.attributes["embedfleet.gpu.memory.peak_bytes"] == 70
    assert passed.attributes["embedfleet.memory.peak_bytes"] == 60
    assert passed.attributes["embedfleet.rows"] == 4
    assert run.attributes["embedfleet.status"] == "done"
    assert run.resource.attributes["service.name"] == "embedfleet"
    assert run.start_time <= passed.start_time <= leased.start_time <= batch.start_time
    assert batch.end_time <= leased.end_time <= run.end_time


@pytest.mark.parametrize("when", [float("inf"), float("nan"), -1.0, 1e300])
def test_a_step_of_no_time_is_refused(finished: Any, when: float) -> None:
    export = SpanExport("http://nowhere/v1/traces", finished)
    with pytest.raises(UsageError, match="is no time"):
        export.stage(StageDone(request=1, name="ranking", begin=0.0, end=when))
    export.close()


def test_what_a_command_does_after_its_run_stands_below_it(finished: Any) -> None:
    export = SpanExport("http://nowhere/v1/traces", finished)
    first = TelemetryTracker(SPEC.passes, lambda *_: None, export.run("run-1", SPEC))
    first.stage("publish", 10.0, 12.0, rows=7, **{"memory.peak_bytes": 5})
    above = first.traceparent
    first.over("done", "")
    assert first.traceparent == ""
    TelemetryTracker(SPEC.passes, lambda *_: None, export.run("run-2", SPEC, above)).over("done", "")
    times = {"begin": 20.0, "end": 21.0}
    export.stage(StageDone(request=1, name="ranking", **times, fields={"rows": 3}, error="no room", traceparent=above))
    export.stage(StageDone(request=2, name="lost", **times, traceparent="what is this"))
    export.close()
    publish, run, derived, ranking, lost = finished.get_finished_spans()
    assert above.startswith(f"00-{run.context.trace_id:032x}-{run.context.span_id:016x}-")
    assert {one.parent.span_id for one in (publish, derived, ranking)} == {run.context.span_id}
    assert {one.context.trace_id for one in (publish, derived, ranking)} == {run.context.trace_id}
    assert (publish.start_time, publish.end_time) == (10_000_000_000, 12_000_000_000)
    assert (publish.attributes["embedfleet.rows"], publish.attributes["embedfleet.memory.peak_bytes"]) == (7, 5)
    assert (ranking.attributes["embedfleet.rows"], ranking.status.description) == (3, "no room")
    assert lost.parent is None


def test_a_lost_worker_takes_its_batches_with_it_and_they_are_sent_again(spans_of: Any) -> None:
    def tell(tracker: TelemetryTracker) -> None:
        lease(tracker)
        send(tracker, 1)
        send(tracker, 2)
        tracker.batch_failed(2, "tokenizing failed")
        tracker.lease("after", "w0", "gpu", 0, None, released=True, code=-9)
        lease(tracker, "w1")
        send(tracker, 1, "w1")
        done(tracker, 1)
        done(tracker, 99)  # nobody knows it: nothing happens
        tracker.over("done", "")

    spans = spans_of(tell)
    status = [(one.status.status_code.name, one.status.description) for one in by_name(spans, "batch")]
    assert status == [("ERROR", "tokenizing failed"), ("ERROR", "its worker ended"), ("UNSET", None)]
    assert len(by_name(spans, "lease")) == 2
    assert len(by_name(spans, "pass")) == 1


def test_a_run_that_fails_says_why_and_leaves_nothing_open(spans_of: Any) -> None:
    def tell(tracker: TelemetryTracker) -> None:
        lease(tracker)
        send(tracker, 1)
        tracker.over("failed", "the disk is full")
        tracker.over("failed", "twice")

    spans = spans_of(tell)
    assert [one.name for one in spans] == ["batch", "lease", "pass", "run"]
    assert spans[-1].status.description == "the disk is full"


def test_closing_waits_no_longer_than_it_may(finished: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(finished, "export", lambda _spans: time.sleep(1.5))
    export = SpanExport("http://nowhere/v1/traces", finished)
    export.run("run-1", SPEC).over("done", "", time.time(), [])
    start = time.monotonic()
    export.close()
    assert time.monotonic() - start < 1.0
    assert "not all could be sent to http://nowhere/v1/traces" in capsys.readouterr().err


def test_the_first_warning_alone_is_told(finished: Any, capsys: Any) -> None:
    export = SpanExport("http://nowhere/v1/traces", finished)
    for number in range(3):
        logging.getLogger("opentelemetry.sdk").warning("no collector, %d", number)
    export.close()
    assert capsys.readouterr().err == "embedfleet: spans: no collector, 0\n"
