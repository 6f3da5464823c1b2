"""A result of another shape than its batch and pass ask for: its worker is ended, and nothing of it goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zmq
from embedfleet.coordinator.core import events
from embedfleet.coordinator.links.worker_link import WorkerLink
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.spec.run_spec import Output
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.codec import encode
from embedfleet.protocol.wire.result_shapes import check_result
from embedfleet.protocol.wire.work import Result, RowError, Timings

ROWS, DIM = 3, 4
PER_ROW = {"n_tokens": np.ones(ROWS, np.int32), "truncated": np.zeros(ROWS, np.uint8)}
OFFSETS = np.array([0, 2, 2, 5])
DENSE, SPARSE, MULTIVECTOR, SCORE = (
    (Output("v", "dense", "dense"), DIM),
    (Output("v", "sparse", "sparse"), 0),
    (Output("v", "multivector", "multivector"), DIM),
    (Output("v", "score", "rerank"), 0),
)
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "dense": (DENSE, {"vector": np.ones((ROWS, DIM), np.float32)}),
    "sparse": (SPARSE, {"offsets": OFFSETS, "indices": np.arange(5, dtype=np.uint32), "values": np.ones(5, "f4")}),
    "multivector": (MULTIVECTOR, {"offsets": OFFSETS, "tokens": np.ones((5, DIM), np.float16)}),
    "score": (SCORE, {"score": np.ones(ROWS, np.float32)}),
}


def result_of(found: dict[str, Any], *errors: RowError) -> tuple[Result, list[memoryview]]:
    headers, frames = arrays.pack(found)
    return Result(1, 1, 9, 9, Timings(0.0, 0.0, 0.0), headers, errors), frames


def check(outputs: list[Any], found: dict[str, Any], *errors: RowError) -> None:
    check_result(*result_of(PER_ROW | found, *errors), ROWS, outputs)


@pytest.mark.parametrize("form", GOOD)
def test_what_is_due_goes_through(form: str) -> None:
    output, found = GOOD[form]
    check([output], found, RowError(ROWS - 1, "a reason"))


def test_a_pass_of_several_outputs_has_their_forms_before_the_names() -> None:
    outputs = [GOOD[form][0] for form in ("dense", "sparse", "multivector")]
    found = {f"{form}/{name}": one for form in GOOD if form != "score" for name, one in GOOD[form][1].items()}
    check(outputs, found)
    with pytest.raises(ProtocolError, match="'multivector/tokens' of shape"):
        check(outputs, found | {"multivector/tokens": np.ones((5, DIM + 1), np.float16)})


@pytest.mark.parametrize(
    ("form", "name", "wrong"),
    [
        ("dense", "vector", np.ones((ROWS, DIM - 1), np.float32)),
        ("dense", "vector", np.ones((ROWS, 1), np.float32)),
        ("dense", "vector", np.ones((ROWS - 1, DIM), np.float32)),
        ("dense", "vector", np.ones((ROWS, DIM, 1), np.float32)),
        ("dense", "vector", None),
        ("dense", "n_tokens", np.ones(ROWS + 1, np.int32)),
        ("dense", "truncated", np.ones((), np.uint8)),
        ("sparse", "offsets", np.array([0, 2, 5])),
        ("sparse", "offsets", np.array([0, 3, 2, 5])),
        ("sparse", "offsets", np.array([1, 2, 2, 5])),
        ("sparse", "offsets", np.array([0, 2, 2, 6])),
        ("sparse", "offsets", np.array([0, 2, 2, 5], np.float32)),
        ("sparse", "indices", np.arange(4, dtype=np.uint32)),
        ("sparse", "values", np.ones((5, 1), np.float32)),
        ("multivector", "tokens", np.ones((5, DIM + 1), np.float16)),
        ("multivector", "tokens", np.ones((4, DIM), np.float16)),
        ("multivector", "offsets", None),
        ("score", "score", np.ones((ROWS, 1), np.float32)),
    ],
)
def test_each_other_shape_is_refused(form: str, name: str, wrong: Any) -> None:
    output, found = GOOD[form]
    with pytest.raises(ProtocolError, match="a result has"):
        check([output], {key: one for key, one in (PER_ROW | found | {name: wrong}).items() if one is not None})


def check_all(found: dict[str, Any]) -> None:
    check_result(*result_of(found), ROWS, [DENSE])


def test_without_the_counts_of_tokens() -> None:
    with pytest.raises(ProtocolError, match="no array 'n_tokens'"):
        check_all(GOOD["dense"][1])


@pytest.mark.parametrize("position", [-1, ROWS])
def test_an_error_for_a_row_that_is_not_there(position: int) -> None:
    with pytest.raises(ProtocolError, match="an error for another one"):
        check([DENSE], GOOD["dense"][1], RowError(position, "a reason"))


class Link:
    """A work link on which one message waits."""

    def __init__(self, frames: list[Any]) -> None:
        self.frames = [zmq.Frame(bytes(one)) for one in frames]

    def poll(self, _timeout: int) -> bool:
        return bool(self.frames)

    def recv_multipart(self, *, copy: bool) -> list[zmq.Frame]:
        assert copy is False
        taken, self.frames = self.frames, []
        return taken


@pytest.mark.parametrize("width", [DIM, DIM + 1])
def test_its_worker_is_ended_and_the_result_is_not_forwarded(width: int) -> None:
    message, frames = result_of(PER_ROW | {"vector": np.ones((ROWS, width), np.float32)})
    worker = SimpleNamespace(name="w1", host="h", device="cpu-0", run="r", pass_index=0, batches=[1])
    emitted: list[Any] = []
    killed: list[str] = []
    context: Any = SimpleNamespace(
        work=Link([b"w1.1", encode(message), *frames]),
        worker_of=lambda _identity: worker,
        fleet=SimpleNamespace(batches={1: SimpleNamespace(rows=ROWS, pass_index=0, tokens=9)}),
        runs={"r": SimpleNamespace(settings=SimpleNamespace(outputs=lambda _pass_index: (DENSE,)))},
        device_name=lambda _uuid: "cpu",
        hosts=SimpleNamespace(kill=lambda name, _host: killed.append(name)),
        emit=emitted.append,
    )
    WorkerLink(context).gather()
    (event,) = emitted
    if width == DIM:
        assert isinstance(event, events.BatchDone)
        assert killed == []
    else:  # which is its batch's failure, as `test_pool_blame.py` has it
        assert isinstance(event, events.WorkerBroken)
        assert (event.worker, event.fatal, killed) == ("w1", False, ["w1"])
        assert "of shape (3, 5) where (3, 4) is due" in event.message
