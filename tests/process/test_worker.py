"""A real worker process; the test is its coordinator."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from embedfleet.protocol.process.child import ChildProcess
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.version import PROTOCOL, __version__
from embedfleet.protocol.wire.hosts import WorkerEnd
from embedfleet.protocol.wire.work import (
    Alive,
    BatchFailedMessage,
    Broken,
    Hydrate,
    Mitigation,
    Ready,
    Release,
    Released,
    Result,
    Staged,
    StageMessage,
    Unfit,
    WorkerHelloMessage,
    worker_identity,
)
from embedfleet.worker.encoders.bm25 import Bm25Encoder
from embedfleet.worker.encoders.fake import FakeEncoder

TEXTS = ["a short one", "a much longer one, with many more words in it than the others", "ünïcödé ✓", "x", "x"]


def fake_vectors(texts: list[str], dim: int = 8) -> np.ndarray:
    encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model=f"fake:{dim}"))
    return encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))


def test_a_dense_life_from_hello_to_released(worker: Any) -> None:
    hello, _ = worker.hear(WorkerHelloMessage)
    assert (hello.protocol, hello.build, hello.epoch, hello.pid) == (PROTOCOL, __version__, 3, worker.process.pid)
    worker.send(StageMessage(PassSpec(vector="v", kind="dense", model="fake:8")))
    staged, _ = worker.hear(Staged)
    assert (staged.fingerprint.model, staged.fingerprint.dim, staged.row_bytes) == ("fake:8", 8, 32)
    worker.send(Hydrate())
    ready, _ = worker.hear(Ready)
    assert ready.memory.used > 0
    worker.batch(1, TEXTS)
    result, found = worker.result(Result)
    assert (result.batch, result.epoch, result.errors) == (1, 3, ())
    np.testing.assert_array_equal(found["vector"], fake_vectors(TEXTS))
    assert found["n_tokens"].tolist() == [(len(text.encode()) + 3) // 4 + 2 for text in TEXTS]
    assert found["truncated"].tolist() == [0] * len(TEXTS)
    assert result.tokens == result.padded == found["n_tokens"].sum()
    worker.send(Release())
    released, _ = worker.hear(Released)
    assert released.peak.used > 0
    assert worker.exit_code() == 0


def test_a_worker_that_stays_is_staged_again_as_it_is(worker: Any) -> None:
    """The estimate of the run's tokens may differ, the model may not."""
    spec = PassSpec(vector="v", kind="dense", model="fake:8", expected_tokens=100)
    worker.hear(WorkerHelloMessage)
    worker.send(StageMessage(spec))
    first, _ = worker.hear(Staged)
    worker.send(Hydrate())
    before, _ = worker.hear(Ready)
    worker.batch(1, TEXTS)
    worker.result(Result)
    worker.send(StageMessage(msgspec.structs.replace(spec, expected_tokens=7)))
    again, _ = worker.hear(Staged)
    assert msgspec.structs.replace(again, seconds=0.0) == msgspec.structs.replace(first, seconds=0.0)
    worker.send(Hydrate())
    ready, _ = worker.hear(Ready)
    assert (ready.placement, ready.seconds) == (before.placement, 0.0)
    worker.batch(2, TEXTS)
    result, found = worker.result(Result)
    np.testing.assert_array_equal(found["vector"], fake_vectors(TEXTS))
    assert result.timings.send > 0
    worker.send(StageMessage(msgspec.structs.replace(spec, dtype="float16")))
    worker.hear(Unfit)
    worker.send(Release())
    worker.hear(Released)
    assert worker.exit_code() == 0


def test_bm25_weights_and_their_order(worker: Any) -> None:
    texts = ["the quick brown fox", "", "fox fox fox", "lazy dogs sleep"]
    worker.prepare("bm25", "bm25")
    worker.batch(4, texts)
    _, found = worker.result(Result)
    encoder = Bm25Encoder(PassSpec(vector="v", kind="bm25", model="bm25"))
    expected = encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))
    assert found["offsets"].tolist() == np.cumsum([0, *(len(one) for one, _ in expected)]).tolist()
    np.testing.assert_array_equal(found["indices"], np.concatenate([one for one, _ in expected]))
    np.testing.assert_array_equal(found["values"], np.concatenate([one for _, one in expected]))
    for start, stop in zip(found["offsets"], found["offsets"][1:], strict=False):
        assert (np.diff(found["indices"][start:stop].astype(np.int64)) > 0).all()
    worker.send(Release())
    worker.hear(Released)
    assert worker.exit_code() == 0


def test_truncation_and_prompt_count(worker: Any) -> None:
    worker.prepare("fake:8", max_tokens=6, prompt="passage: ")
    worker.batch(1, ["x", "y" * 100])
    _, found = worker.result(Result)
    assert found["n_tokens"].tolist() == [5, 6]
    assert found["truncated"].tolist() == [0, 1]
    np.testing.assert_array_equal(found["vector"], fake_vectors(["passage: x", "passage: " + "y" * 100]))


def test_a_row_without_a_finite_vector_is_an_error_of_its_own(worker: Any) -> None:
    worker.prepare("fake:8,nan_on=poison")
    worker.batch(1, ["fine", "poison here", "fine too"])
    result, found = worker.result(Result)
    assert [error.position for error in result.errors] == [1]
    assert "not finite" in result.errors[0].reason
    np.testing.assert_array_equal(found["vector"][[0, 2]], fake_vectors(["fine", "fine too"]))


def test_out_of_memory_halves_the_budget_and_the_batch_goes_through(worker: Any) -> None:
    texts = [f"{number:03d}" + "x" * 397 for number in range(16)]  # 102 tokens each, 1,632 in all
    worker.prepare("fake:8,oom_above=500")
    worker.batch(1, texts)
    first, _ = worker.hear(Mitigation)
    second, _ = worker.hear(Mitigation)
    assert (first.reason, first.tokens_after) == ("out_of_memory", 816)
    assert (second.tokens_before, second.tokens_after) == (816, 408)
    _, found = worker.result(Result)
    np.testing.assert_array_equal(found["vector"], fake_vectors(texts))
    worker.batch(2, texts)
    worker.result(Result)  # what was learnt stays: no more mitigations on the way


def test_a_single_text_that_does_not_fit_fails_its_batch_only(worker: Any) -> None:
    worker.prepare("fake:8,oom_above=500")
    worker.batch(1, ["z" * 10_000])
    worker.batch(2, ["small"])
    while not isinstance((message := worker.hear((Mitigation, BatchFailedMessage))[0]), BatchFailedMessage):
        pass
    assert (message.batch, message.epoch) == (1, 3)
    assert "out of memory" in message.reason
    result, found = worker.result(Result)
    assert result.batch == 2
    np.testing.assert_array_equal(found["vector"], fake_vectors(["small"]))


def test_a_deadly_text_kills_the_process(worker: Any) -> None:
    worker.prepare("fake:8,kill_on=poison")
    worker.batch(1, ["harmless"])
    worker.result(Result)
    worker.batch(2, ["a poison pill"])
    assert worker.exit_code() == -signal.SIGKILL


def test_the_last_word_of_a_worker_is_the_error_itself(worker: Any) -> None:
    worker.prepare("fake:8,raise_on=poison")
    worker.batch(1, ["a poison pill"])
    assert worker.exit_code() == 70
    assert WorkerEnd(70, worker.process.tail()).reason == (
        "exit code 70: RuntimeError: CUDA error: an illegal memory access was encountered"
    )


@pytest.mark.parametrize(
    ("kind", "model", "words"),
    [
        ("dense", "fake:0", "dimension"),
        ("dense", "fake:8,delay=5", "delay_ms"),
        ("dense", "fake:8,delay_ms=soon", "must be a number"),
        ("sparse", "no-such-alias", "give bm25, metadata"),
        ("dense", "no-such-alias", "catalogue"),
    ],
)
def test_a_model_that_cannot_be_had_is_broken_for_good(worker: Any, kind: str, model: str, words: str) -> None:
    worker.hear(WorkerHelloMessage)
    worker.send(StageMessage(PassSpec(vector="v", kind=kind, model=model)))
    broken, _ = worker.hear(Broken, 60)
    assert (broken.kind, broken.fatal) == ("ModelError", True)
    assert words in broken.message
    worker.send(Release())
    worker.hear(Released)
    assert worker.exit_code() == 0


def test_heartbeats_carry_the_progress(worker: Any) -> None:
    worker.prepare("fake:8,delay_ms=1,hang_on=poison")
    for number in range(3):
        worker.batch(number, ["text"])
        worker.result(Result)
    worker.batch(9, ["poison"])
    while len(worker.alives) < 2 or worker.alives[-2].progress < 3:
        message, _ = worker.next()
        assert isinstance(message, Alive)
        worker.alives.append(message)
    # alive although the model hangs, and the progress that stands still says so
    assert [one.progress for one in worker.alives[-2:]] == [3, 3]
    assert all(one.epoch == 3 and one.resident > 1 << 20 for one in worker.alives)


def test_batches_in_flight_come_back_in_order_and_overlap(worker: Any) -> None:
    worker.prepare("fake:8,delay_ms=40")
    for number in range(5):
        worker.batch(number, [f"text {number}"])
    results = [worker.result(Result) for _ in range(5)]
    assert [result.batch for result, _ in results] == [0, 1, 2, 3, 4]
    for number, (result, found) in enumerate(results):
        np.testing.assert_array_equal(found["vector"], fake_vectors([f"text {number}"]))
        assert result.timings.forward >= 0.04
    # each was tokenized while the one before was computed, so the model had little to wait for
    assert sum(result.timings.wait for result, _ in results[1:]) < 0.08


def test_release_waits_for_what_is_in_flight(worker: Any) -> None:
    worker.prepare("fake:8,delay_ms=50")
    for number in range(3):
        worker.batch(number, ["text"])
    worker.send(Release())
    assert [worker.result(Result)[0].batch for _ in range(3)] == [0, 1, 2]
    worker.hear(Released)
    assert worker.exit_code() == 0


def test_nonsense_ends_the_worker(worker: Any) -> None:
    worker.hear(WorkerHelloMessage)
    worker.socket.send_multipart([worker_identity(worker.name, worker.epoch), b"\xc1 nonsense"])
    code = worker.exit_code()
    assert code not in (None, 0)
    assert "not of this link's types" in worker.process.tail()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "stuck in the model"])
def test_a_worker_dies_with_its_parent(make_orphan: Callable[[], tuple[Any, int]], waiting: Any, busy: bool) -> None:
    worker, parent = make_orphan()
    worker.prepare("fake:8,hang_on=poison")
    process = psutil.Process(worker.process.pid)
    if busy:
        worker.batch(1, ["poison"])
        worker.next()
    os.kill(parent, signal.SIGKILL)
    waiting.all_gone([process], 2.0)


def test_missing_arguments_are_a_usage_error(start: Callable[..., ChildProcess]) -> None:
    process = start("embedfleet.worker", "--endpoint=ipc:///tmp/nowhere")
    assert process.wait(20) == 2
    assert "required" in process.tail()
