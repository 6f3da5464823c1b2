"""The compute thread, with an encoder that misbehaves: each row is told of once, and what is too large is not sent."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.spec.fake_models import FAKE_KINDS
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.protocol.wire.devices import MemorySample
from embedfleet.protocol.wire.work import BatchFailedMessage, Mitigation, Ready
from embedfleet.worker.device.memory import DeviceMemory, Pressure, Starved
from embedfleet.worker.encoders.base import OutOfMemory, Prepared, TokenBudget, ignore
from embedfleet.worker.encoders.choose import load_encoder
from embedfleet.worker.encoders.fake import FakeEncoder
from embedfleet.worker.encoders.fake_others import FakeHeadsEncoder, FakeMultivectorEncoder
from embedfleet.worker.outcomes import Computed, Outcome
from embedfleet.worker.pipeline import Pipeline, TextBatch

MEMORY = MemorySample(phase="hydrated", used=1, total=1, source="rss")


class Manager:
    """A ModelManager whose model is there already."""

    def __init__(self, encoder: Any, streams: int = 1) -> None:
        self.encoder, self.streams = encoder, streams

    def hydrated(self) -> None:
        """It is not on the device yet."""

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
    assert sorted(error.position for error in result.message.errors) == [0, 1]
    assert np.isfinite(result.arrays["vector"][2:]).all()


def test_more_numbers_than_a_point_takes_are_an_error_and_are_not_sent() -> None:
    encoder = FakeMultivectorEncoder(PassSpec(vector="v", kind="multivector", model="fake:65536"))
    result, _ = computed(encoder, ["two words", "word " * 20, "three more words"])
    (error,) = result.message.errors
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
    assert [error.position for error in result.message.errors] == [0]


@pytest.mark.parametrize("kind", FAKE_KINDS)
def test_a_row_of_another_shape_is_refused_alone_and_nothing_is_broadcast(kind: Kind) -> None:
    """The whole micro-batch is of another shape; at dimension 2 its vectors could be spread over those that are due."""

    def encoder(options: str = "") -> Any:
        return load_encoder(PassSpec(vector="v", kind=kind, model=f"fake:2{options}"), "cpu", 1)

    texts = ["fine", "poison", "fine as well"]
    if kind == "rerank":
        texts = [join_pair("as well", text) for text in texts]
    result, _ = computed(encoder(",shape_on=poison"), texts)
    (error,) = result.message.errors
    assert (error.position, error.reason) == (1, "the model's result is of another shape than its vectors have")
    good, _ = computed(encoder(), [texts[0], texts[2]])
    for name, array in good.arrays.items():
        match name.rpartition("/")[2]:
            case "vector" | "score":
                np.testing.assert_array_equal(result.arrays[name][[0, 2]], array)
                assert np.isnan(result.arrays[name][1]).all()
            case "indices" | "values" | "tokens":
                np.testing.assert_array_equal(result.arrays[name], array)
            case "offsets":
                start, middle, stop = array.tolist()
                assert result.arrays[name].tolist() == [start, middle, middle, stop]


class Once(FakeEncoder):
    """The first result is of another shape; row by row all is well."""

    def compute(self, prepared: Prepared, rows: Any) -> Any:
        vectors = super().compute(prepared, rows)
        return vectors if len(rows) == 1 else vectors[:, :1]


def test_a_result_of_another_shape_is_computed_again_row_by_row() -> None:
    texts = ["a", "of", "three"]
    spec = PassSpec(vector="v", kind="dense", model="fake:2")
    result, _ = computed(Once(spec), texts)
    assert result.message.errors == ()
    np.testing.assert_array_equal(result.arrays["vector"], computed(FakeEncoder(spec), texts)[0].arrays["vector"])


def test_a_batch_of_nothing_but_such_rows() -> None:
    spec = PassSpec(vector="v", kind="dense", model="fake:8,shape_on=poison")
    result, _ = computed(FakeEncoder(spec), ["poison", "more poison"])
    assert sorted(error.position for error in result.message.errors) == [0, 1]
    assert np.isnan(result.arrays["vector"]).all()


def test_of_three_heads_only_the_multivector_is_too_large() -> None:
    encoder = FakeHeadsEncoder(PassSpec(vector="v", kind="bge-m3", model="fake:65536", truncate_dim=8))
    texts = ["two words", "word " * 20, "three more words"]
    result, _ = computed(encoder, texts)
    assert [(error.position, error.output) for error in result.message.errors] == [(1, "multivector")]
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
    assert isinstance(found, BatchFailedMessage)
    assert found.reason == "out of memory: 1 GiB was asked for"


class Crowded(DeviceMemory):
    """Others have taken the GPU's memory."""

    def __init__(self) -> None:
        super().__init__("cpu", "")
        self.given_back = 0

    def pressure(self) -> Pressure:
        return Pressure(0.99, crowded=True)

    def give_back(self) -> None:
        self.given_back += 1


def test_where_others_have_taken_the_memory_no_text_is_to_blame() -> None:
    found, _ = outcome_of(Shrinking(), ["gone " * 300], Crowded())
    assert isinstance(found, Starved)


def test_others_that_take_the_memory_shrink_the_budget_before_anything_fails() -> None:
    memory = Crowded()
    encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model="fake:8"))
    encoder.budget = TokenBudget(1_000, 1_000)
    found, changes = outcome_of(encoder, ["fine", "as well"], memory)
    assert isinstance(found, Computed)
    assert changes == [Mitigation("memory_pressure", 1_000, 750)]
    assert memory.given_back == 1, "what torch keeps for later helps at once"


class Halved(FakeEncoder):
    """Its only bad row never fits in float32."""

    def recompute(self, prepared: Prepared, rows: Any) -> Any:
        raise OutOfMemory(f"no room for {len(rows)} of {len(prepared.lengths)} in float32")


def test_a_second_try_that_does_not_fit_is_the_texts_fault() -> None:
    encoder = Halved(PassSpec(vector="v", kind="dense", model="fake:8,nan_on=poison"))
    encoder.budget = TokenBudget(64, 64)
    found, _ = outcome_of(encoder, ["fine " * 300, "poison"])
    assert isinstance(found, BatchFailedMessage)


class Changing(FakeEncoder):
    """An encoder that goes on in another way while it is hydrated, and with its first texts."""

    def __init__(self) -> None:
        super().__init__(PassSpec(vector="v", kind="dense", model="fake:8"))
        self.notify: Callable[[str], None] = ignore

    def prepare(self, texts: Sequence[str]) -> Prepared:
        self.notify("word_cache_off: row 3 of 8 differs" + "." * 1_000)
        return super().prepare(texts)


def test_an_encoder_that_goes_on_in_another_way_is_told_of_with_its_budget() -> None:
    encoder = Changing()
    _, (change,) = computed(encoder, ["a text"])
    assert change.reason.startswith("word_cache_off: row 3 of 8 differs.")
    assert len(change.reason) == 500
    assert change.tokens_before == change.tokens_after == encoder.budget.initial


class Meeting(FakeEncoder):
    """Two micro-batches are computed only while both are under way; each is one text."""

    def __init__(self) -> None:
        super().__init__(PassSpec(vector="v", kind="dense", model="fake:8"))
        self.budget = TokenBudget(64, 64)
        self._meeting = threading.Barrier(2)

    def compute(self, prepared: Prepared, rows: Any) -> Any:
        self._meeting.wait(20.0)
        return super().compute(prepared, rows)


def outcomes_of(encoder: Any, streams: int, *batches: list[str]) -> list[Any]:
    """The outcomes of batches 0, 1 and so on in the order in which they are handed out."""
    manager: Any = Manager(encoder, streams)
    pipeline = Pipeline(manager, DeviceMemory("cpu", ""))
    pipeline.hydrate()
    for number, texts in enumerate(batches):
        pipeline.submit(TextBatch(number, 1, texts))
    found: list[Any] = []
    while len(found) < len(batches):
        assert select.select([pipeline.wake_fd], [], [], 20.0)[0], "nothing came"
        found += [one for one in pipeline.take() if not isinstance(one, Ready | Mitigation)]
    return found


def test_streams_compute_micro_batches_at_the_same_time_and_the_rows_are_in_order() -> None:
    texts = [f"{number} " * 100 for number in range(8)]
    (found,) = outcomes_of(Meeting(), 2, texts)
    (alone,) = outcomes_of(FakeEncoder(PassSpec(vector="v", kind="dense", model="fake:8")), 1, texts)
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_a_stream_without_work_begins_the_next_batch_and_the_first_result_still_comes_first() -> None:
    """Each batch is one micro-batch, so the two meet only if they are computed at the same time."""
    found = outcomes_of(Meeting(), 2, ["one"], ["two"], ["three"], ["four"])
    assert [one.message.batch for one in found] == [0, 1, 2, 3]


class FirstWaits(FakeEncoder):
    """The text `first` is computed after the text `second`."""

    def __init__(self) -> None:
        super().__init__(PassSpec(vector="v", kind="dense", model="fake:8"))
        self._second = threading.Event()

    def compute(self, prepared: Prepared, rows: Any) -> Any:
        if "first" in prepared.items[0]:
            assert self._second.wait(20.0)
        vectors = super().compute(prepared, rows)
        if "second" in prepared.items[0]:
            self._second.set()
        return vectors


def test_a_later_batch_that_is_ready_earlier_is_handed_out_later() -> None:
    found = outcomes_of(FirstWaits(), 2, ["first"], ["second"])
    assert [one.message.batch for one in found] == [0, 1]


def test_a_text_that_cannot_be_tokenized_fails_its_batch_in_its_turn() -> None:
    class Unreadable(FirstWaits):
        def prepare(self, texts: Sequence[str]) -> Prepared:
            if "bad" in texts:
                raise ValueError("no such token")
            return super().prepare(texts)

    found = outcomes_of(Unreadable(), 2, ["first"], ["bad"], ["second"])
    assert [getattr(one, "reason", "") for one in found] == ["", "tokenizing failed: no such token", ""]


def test_streams_without_memory_shrink_the_budget_and_lose_no_row() -> None:
    spec = PassSpec(vector="v", kind="dense", model="fake:8,oom_above=300")
    encoder = FakeEncoder(spec)
    encoder.budget = TokenBudget(1_000, 1_000)
    texts = [f"{number} " * 100 for number in range(40)]
    (found,) = outcomes_of(encoder, 3, texts)
    (alone,) = outcomes_of(FakeEncoder(PassSpec(vector="v", kind="dense", model="fake:8")), 1, texts)
    np.testing.assert_array_equal(found.arrays["vector"], alone.arrays["vector"])


def test_one_text_that_never_fits_fails_its_batch_once_and_the_next_batch_is_computed() -> None:
    spec = PassSpec(vector="v", kind="dense", model="fake:8,oom_above=300")
    encoder = FakeEncoder(spec)
    encoder.budget = TokenBudget(200, 200)
    found = outcomes_of(encoder, 2, ["long " * 400, "fine"], ["fine"])
    assert [type(one) for one in found] == [BatchFailedMessage, Computed]
