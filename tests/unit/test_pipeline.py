"""The compute thread, with an encoder that misbehaves: each row is told of once, and what is too large is not sent."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any

import numpy as np
from embedfleet.protocol.devices import MemorySample
from embedfleet.protocol.spec import PassSpec
from embedfleet.protocol.work_messages import BatchFailed, Mitigation, Ready
from embedfleet.worker.encoders.base import OutOfMemory, Prepared, TokenBudget
from embedfleet.worker.encoders.fake import FakeEncoder
from embedfleet.worker.encoders.fake_others import FakeHeadsEncoder, FakeMultivectorEncoder
from embedfleet.worker.memory import DeviceMemory, Pressure
from embedfleet.worker.pipeline import Computed, Outcome, Pipeline, Starved, TextBatch

MEMORY = MemorySample(phase="hydrated", used=1, total=1, source="rss")


class Manager:
    """A ModelManager whose model is there already."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def hydrate(self) -> Ready:
        return Ready("host memory", MEMORY, 0.0)


def computed(encoder: Any, texts: Sequence[str]) -> tuple[Computed, list[Mitigation]]:
    """The result of one batch, and the changes of the budget on the way."""
    found, changes = outcome_of(encoder, texts)
    assert isinstance(found, Computed), found
    return found, changes


def outcome_of(
    encoder: Any, texts: Sequence[str], memory: DeviceMemory | None = None
) -> tuple[Outcome, list[Mitigation]]:
    """What comes of one batch, and the changes of the budget on the way."""
    manager: Any = Manager(encoder)
    pipeline = Pipeline(manager, memory or DeviceMemory("cpu", ""))
    pipeline.hydrate()
    pipeline.submit(TextBatch(1, 1, list(texts)))
    changes: list[Mitigation] = []
    while True:
        assert select.select([pipeline.wake_fd], [], [], 20.0)[0], "nothing came"
        for outcome in pipeline.take():
            if isinstance(outcome, Mitigation):
                changes.append(outcome)
            elif not isinstance(outcome, Ready):
                return outcome, changes


class Tight(FakeEncoder):
    """Both its bad rows are computed once more; the second of them does not fit the first time."""

    def __init__(self) -> None:
        super().__init__(PassSpec(vector="v", kind="dense", model="fake:8,nan_on=poison"))
        self.tries = 0

    def recompute(self, prepared: Prepared, rows: Any) -> Any:
        self.tries += 1
        if self.tries == 2:
            raise OutOfMemory("no room for float32")
        return self.compute(prepared, rows)


def test_an_error_of_a_micro_batch_that_is_tried_again_is_told_once() -> None:
    result, changes = computed(Tight(), ["poison " * 80, "poison " * 60, "fine " * 40, "fine " * 20])
    assert [one.reason for one in changes] == ["out_of_memory"]
    assert sorted(error.position for error in result.errors) == [0, 1]
    assert np.isfinite(result.arrays["vector"][2:]).all()


def test_more_numbers_than_a_point_takes_are_an_error_and_are_not_sent() -> None:
    encoder = FakeMultivectorEncoder(PassSpec(vector="v", kind="multivector", model="fake:65536"))
    result, _ = computed(encoder, ["two words", "word " * 20, "three more words"])
    (error,) = result.errors
    assert (error.position, error.output, error.too_large, error.reason) == (
        1,
        "multivector",
        True,
        "20 token vectors are 1,310,720 numbers, and Qdrant takes at most 1,048,576 in a point; give --pool-factor, or "
        "fewer --max-tokens",
    )
    assert result.arrays["offsets"].tolist() == [0, 2, 2, 5]
    assert result.arrays["tokens"].shape == (5, 65_536)


def test_a_batch_of_nothing_but_such_texts_has_no_rows() -> None:
    encoder = FakeMultivectorEncoder(PassSpec(vector="v", kind="multivector", model="fake:65536"))
    result, _ = computed(encoder, ["word " * 20])
    assert result.arrays["tokens"].shape == (0, 65_536)
    assert [error.position for error in result.errors] == [0]


def test_of_three_heads_only_the_multivector_is_too_large() -> None:
    encoder = FakeHeadsEncoder(PassSpec(vector="v", kind="bge-m3", model="fake:65536", truncate_dim=8))
    texts = ["two words", "word " * 20, "three more words"]
    result, _ = computed(encoder, texts)
    assert [(error.position, error.output) for error in result.errors] == [(1, "multivector")]
    assert result.arrays["multivector/offsets"].tolist() == [0, 2, 2, 5]
    assert result.arrays["multivector/tokens"].shape == (5, 65_536)
    assert np.diff(result.arrays["sparse/offsets"]).tolist() == [2, 1, 3]
    alone = FakeEncoder(PassSpec(vector="v", kind="dense", model="fake:65536", truncate_dim=8))
    np.testing.assert_array_equal(result.arrays["dense/vector"], alone.compute(alone.prepare(texts), np.arange(3)))


class Shrinking(FakeEncoder):
    """From a text with `gone` on, nothing fits."""

    def __init__(self, model: str = "fake:8") -> None:
        super().__init__(PassSpec(vector="v", kind="dense", model=model))
        self.full = False

    def compute(self, prepared: Prepared, rows: Any) -> Any:
        self.full |= any("gone" in prepared.items[0][row] for row in rows)
        if self.full:
            raise OutOfMemory("1 GiB was asked for")
        return super().compute(prepared, rows)


def test_a_text_that_would_fit_does_not_any_more_so_the_device_is_to_blame() -> None:
    """The longest goes first, and through; the budget holds one text at a time."""
    encoder = Shrinking()
    encoder.budget = TokenBudget(64, 64)
    found, _ = outcome_of(encoder, ["a " * 300, "it is gone"])
    assert isinstance(found, Starved)
    assert "taken by others, or in pieces: 1 GiB was asked for" in found.reason


def test_a_text_longer_than_any_that_fit_is_to_blame_itself() -> None:
    found, _ = outcome_of(Shrinking(), ["gone " * 300])
    assert isinstance(found, BatchFailed)
    assert found.reason == "out of memory: 1 GiB was asked for"


class Crowded(DeviceMemory):
    """Others have taken the GPU's memory."""

    def __init__(self) -> None:
        super().__init__("cpu", "")

    def pressure(self) -> Pressure:
        return Pressure(0.99, crowded=True)


def test_where_others_have_taken_the_memory_no_text_is_to_blame() -> None:
    found, _ = outcome_of(Shrinking(), ["gone " * 300], Crowded())
    assert isinstance(found, Starved)


class Halved(FakeEncoder):
    """Its only bad row never fits in float32."""

    def recompute(self, prepared: Prepared, rows: Any) -> Any:
        raise OutOfMemory(f"no room for {len(rows)} of {len(prepared.lengths)} in float32")


def test_a_second_try_that_does_not_fit_is_the_texts_fault() -> None:
    encoder = Halved(PassSpec(vector="v", kind="dense", model="fake:8,nan_on=poison"))
    encoder.budget = TokenBudget(64, 64)
    found, _ = outcome_of(encoder, ["fine " * 300, "poison"])
    assert isinstance(found, BatchFailed)
