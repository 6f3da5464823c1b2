"""Micro-batches that several streams take of the same batches."""

from __future__ import annotations

import queue
import threading
from typing import Any

from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders.fake import FakeEncoder
from embedfleet.worker.micro_batches import MicroBatches, OpenBatch

SECONDS = 20.0


def test_rows_given_back_are_taken_again_while_another_stream_waits_for_a_batch() -> None:
    """The next batch may not come before the result of the one whose rows they are."""
    encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model="fake:8"))
    one = OpenBatch(0, 1, 1, encoder.prepare(["a text"]), False, 0.0)
    coming: queue.SimpleQueue[OpenBatch | None] = queue.SimpleQueue()
    coming.put(one)
    waits = threading.Event()

    def receive(_wait: bool) -> OpenBatch | None:
        if coming.empty():
            waits.set()
        return coming.get()

    outcomes: list[Any] = []
    batches = MicroBatches(2, threading.Lock(), receive, outcomes.append)
    taken: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take() -> None:
        taken.put(batches.take(lambda: 64))

    found = batches.take(lambda: 64)
    assert found is not None
    other = threading.Thread(target=take, daemon=True)
    other.start()
    assert waits.wait(SECONDS)
    one.give_back(found[1])
    assert not one.put_down(0.0), "its rows are left"
    threading.Thread(target=take, daemon=True).start()
    again, rows = taken.get(timeout=SECONDS)
    assert again is one
    assert rows.tolist() == [0]
    coming.put(None)
    other.join(SECONDS)
    assert taken.get(timeout=SECONDS) is None
