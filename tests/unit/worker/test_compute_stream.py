"""A stream with several open micro-batches: what it launches and collects when, and what out of memory costs."""

from __future__ import annotations

import select
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.work import BatchFailedMessage
from embedfleet.worker.adaptive_batch import AdaptiveBatchController
from embedfleet.worker.compute_stream import ComputeStream, Shared
from embedfleet.worker.device.memory import DeviceMemory, Starved
from embedfleet.worker.encoders.base import IntArray, Launched, OutOfMemory, Prepared, TokenBudget
from embedfleet.worker.encoders.fake import FakeEncoder
from embedfleet.worker.micro_batches import MicroBatches, OpenBatch
from embedfleet.worker.outcomes import Computed
from embedfleet.worker.pipeline import Pipeline, TextBatch
from embedfleet.worker.token_allowance import TokenAllowance

WORDS = {number: f"{number} " * 100 for number in range(10)}
"""Texts of 52 tokens."""


@dataclass(frozen=True)
class Logged:
    """A launched micro-batch of a LoggingEncoder."""

    encoder: LoggingEncoder
    prepared: Prepared
    rows: IntArray

    def collect(self) -> Any:
        return self.encoder.collected(self.prepared, self.rows)


class LoggingEncoder(FakeEncoder):
    """Its device holds at most `room` open micro-batches. `log` has the first digit of each text that is launched (+) or
    collected (-), or was refused (!)."""

    def __init__(self, depth: int = 2, room: int = 99, model: str = "fake:8") -> None:
        super().__init__(PassSpec(vector="v", kind="dense", model=model))
        self.depth, self.room = depth, room
        self.budget = TokenBudget(64, 64)
        self.log: list[str] = []
        self.open = 0

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        digits = "".join(prepared.items[0][row][0] for row in rows)
        if self.open >= self.room:
            self.log.append("!" + digits)
            raise OutOfMemory(f"no room beside {self.open}")
        self.log.append("+" + digits)
        self.open += 1
        return Logged(self, prepared, rows)

    def collected(self, prepared: Prepared, rows: IntArray) -> Any:
        self.open -= 1
        self.log.append("-" + "".join(prepared.items[0][row][0] for row in rows))
        return self.compute(prepared, rows)


@dataclass
class Bench:
    """A stream without its thread. `waiting` are tokenized batches; `outcomes` and `progress` are what it reports."""

    encoder: FakeEncoder
    waiting: list[OpenBatch] = field(default_factory=list[OpenBatch])
    outcomes: list[Any] = field(default_factory=list[Any])
    progress: int = 0

    def __post_init__(self) -> None:
        lock = threading.Lock()
        allowance = TokenAllowance(
            AdaptiveBatchController(self.encoder.budget, lambda *_change: None), DeviceMemory("cpu", "")
        )
        batches = MicroBatches(1, lock, self._receive, self.outcomes.append)
        self.stream = ComputeStream(
            Shared(self.encoder, 1, batches, allowance, lock, self.outcomes.append, self._progressed)
        )
        self.allowance = allowance

    def _progressed(self) -> None:
        self.progress += 1

    def _receive(self, wait: bool) -> OpenBatch | None:
        assert self.waiting or not wait, "it waits for a batch although results could be sent"
        return self.waiting.pop(0) if self.waiting else None

    def add(self, *texts: str) -> None:
        number = len(self.waiting) + len(self.outcomes)
        prepared = self.encoder.prepare(texts)
        self.waiting.append(OpenBatch(number, 1, len(texts), prepared, False, 0.0))

    def run(self, outcomes: int) -> list[Any]:
        while len(self.outcomes) < outcomes:
            self.stream.step()
        return self.outcomes


def vectors(texts: Sequence[str]) -> Any:
    encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model="fake:8"))
    return encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))


def assert_complete(found: Any, texts: Sequence[str]) -> None:
    assert isinstance(found, Computed), found
    assert found.message.errors == ()
    np.testing.assert_array_equal(found.arrays["vector"], vectors(texts))


@pytest.mark.parametrize(
    ("depth", "log"),
    [
        (1, "+0 -0 +1 -1 +2 -2 +3 -3"),
        (2, "+0 +1 -0 +2 -1 +3 -2 -3"),
        (3, "+0 +1 +2 -0 +3 -1 -2 -3"),
    ],
)
def test_the_next_ones_are_launched_before_the_oldest_is_collected(depth: int, log: str) -> None:
    bench = Bench(LoggingEncoder(depth))
    texts = [WORDS[number] for number in range(4)]
    bench.add(*texts)
    assert_complete(bench.run(1)[0], texts)
    assert bench.encoder.log == log.split()
    assert bench.progress == 4


def test_a_batch_begins_while_the_one_before_is_open_and_results_come_in_order() -> None:
    bench = Bench(LoggingEncoder(3))
    for number in range(4):
        bench.add(WORDS[number])
    found = bench.run(4)
    assert bench.encoder.log == ["+0", "+1", "+2", "-0", "+3", "-1", "-2", "-3"]
    for number, one in enumerate(found):
        assert one.message.batch == number
        assert_complete(one, [WORDS[number]])


def test_what_is_finished_is_sent_before_the_next_batch_is_waited_for() -> None:
    """`Bench` fails where it waits with none there."""
    bench = Bench(LoggingEncoder(3))
    bench.add(WORDS[0], WORDS[1])
    assert_complete(bench.run(1)[0], [WORDS[0], WORDS[1]])


def test_what_is_not_collected_has_made_no_progress() -> None:
    bench = Bench(LoggingEncoder(3))
    bench.add(*WORDS.values())
    for _ in range(3):
        bench.stream.step()
    assert (bench.encoder.log, bench.progress) == (["+0", "+1", "+2"], 0)
    bench.stream.step()
    assert (bench.encoder.log[3:], bench.progress) == (["-0"], 1)


def test_no_room_beside_others_collects_them_and_the_row_is_launched_alone_and_is_not_to_blame() -> None:
    encoder = LoggingEncoder(3, room=1)
    bench = Bench(encoder)
    texts = [WORDS[number] for number in range(3)]
    bench.add(*texts)
    assert_complete(bench.run(1)[0], texts)
    # After a success it tries again to have several open.
    assert encoder.log == ["+0", "!1", "-0", "+1", "-1", "+2", "-2"]


def test_rows_that_do_not_fit_beside_others_are_tried_in_smaller_parts() -> None:
    encoder = LoggingEncoder(2, room=1)
    encoder.budget = TokenBudget(240, 240)
    bench = Bench(encoder)
    texts = [WORDS[number] for number in range(8)]
    bench.add(*texts)
    assert_complete(bench.run(1)[0], texts)
    assert encoder.log[:5] == ["+0123", "!4567", "-0123", "+45", "-45"]
    assert bench.allowance.tokens == 104, "half of what was tried"


def test_a_row_without_room_alone_fails_its_batch_and_the_others_that_were_open_are_sent() -> None:
    encoder = LoggingEncoder(2, model="fake:8,oom_above=60")
    launch = encoder.launch

    def limited(prepared: Prepared, rows: IntArray) -> Launched:
        if prepared.lengths[rows].sum() > 60:
            raise OutOfMemory("too long")
        return launch(prepared, rows)

    encoder.launch = limited  # type: ignore[method-assign]
    bench = Bench(encoder)
    bench.add(WORDS[0])
    bench.add(WORDS[1] * 2)
    bench.add(WORDS[2])
    first, second, third = bench.run(3)
    assert_complete(first, [WORDS[0]])
    assert isinstance(second, BatchFailedMessage)
    assert second.reason == "out of memory: too long"
    assert_complete(third, [WORDS[2]])


def test_a_row_that_would_fit_and_does_not_even_alone_ends_the_process() -> None:
    encoder = LoggingEncoder(2)
    bench = Bench(encoder)
    bench.add(WORDS[0], WORDS[1])
    bench.run(1)
    encoder.room = 0
    bench.add(WORDS[2])
    starved = bench.run(2)[1]
    assert isinstance(starved, Starved)
    assert "taken by others, or in pieces: no room beside 0" in starved.reason


class Tight(LoggingEncoder):
    """Float32 fits only if nothing else is open."""

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        self.log.append("?" + prepared.items[0][int(rows[0])][0])
        if self.open:
            raise OutOfMemory("no room for float32")
        return vectors([prepared.items[0][int(rows[0])]])


def test_a_second_attempt_without_room_beside_others_is_made_again_alone() -> None:
    encoder = Tight(3, model="fake:8,nan_on=1")
    bench = Bench(encoder)
    texts = [WORDS[number] for number in range(5)]
    bench.add(*texts)
    assert_complete(bench.run(1)[0], texts)
    assert encoder.log == ["+0", "+1", "+2", "-0", "+3", "-1", "?1", "-2", "-3", "+1", "-1", "?1", "+4", "-4"]


def test_a_second_attempt_is_made_while_others_are_open() -> None:
    encoder = LoggingEncoder(3, model="fake:8,nan_on=1")
    bench = Bench(encoder)
    bench.add(*[WORDS[number] for number in range(3)])
    (found,) = bench.run(1)
    assert [error.position for error in found.message.errors] == [1]
    assert np.isfinite(found.arrays["vector"][[0, 2]]).all()
    assert bench.progress == 4, "a second attempt is progress too"


def test_the_real_threads_with_a_fake_device_that_computes_beside_them() -> None:
    """Memory for three micro-batches at a time, of which two rows are bad."""
    spec = PassSpec(vector="v", kind="dense", model="fake:8,depth=3,delay_ms=1,nan_on=poison,oom_above=200")
    encoder = FakeEncoder(spec)
    encoder.budget = TokenBudget(150, 150)

    class Manager:
        streams = 1

        def __init__(self) -> None:
            self.encoder = encoder

        def hydrated(self) -> None:
            """It is not on the device yet."""

        def hydrate(self) -> Any:
            from embedfleet.protocol.wire.devices import MemorySample
            from embedfleet.protocol.wire.work import Ready

            return Ready("host memory", MemorySample(phase="hydrated", used=1, total=1, source="rss"), 0.0)

    manager: Any = Manager()
    pipeline = Pipeline(manager, DeviceMemory("cpu", ""))
    pipeline.hydrate()
    batches = [[f"{batch} {row} " * 40 + "poison" * (row == 7) for row in range(20)] for batch in range(4)]
    for number, texts in enumerate(batches):
        pipeline.submit(TextBatch(number, 1, texts))
    found: list[Computed] = []
    while len(found) < len(batches):
        assert select.select([pipeline.wake_fd], [], [], 20.0)[0], "nothing came"
        found += [one for one in pipeline.take() if isinstance(one, Computed)]
    for number, (one, texts) in enumerate(zip(found, batches, strict=True)):
        assert one.message.batch == number
        assert [error.position for error in one.message.errors] == [7]
        good = [row for row in range(20) if row != 7]
        np.testing.assert_array_equal(one.arrays["vector"][good], vectors([texts[row] for row in good]))
