"""Reads of a range: exactly the bytes that were asked for, whatever the answers are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.ranges import ATTEMPTS, ObjectChanged, read_range
from hypothesis import given
from hypothesis import strategies as st

CONTENT = bytes(range(256)) * 4
WHERE = Address("s3", "box", "a")


class Answers:
    """Ranges of CONTENT whose answers follow a plan: `cut N` ends after N bytes, `fail N` with an error after them, `more`
    adds bytes, `error` is raised, `changed`. Then all answers are right."""

    def __init__(self, *plan: str | Exception) -> None:
        self.plan, self.asked = list(plan), list[tuple[int, int]]()

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        self.asked.append((start, end))
        step = self.plan.pop(0) if self.plan else "right"
        if isinstance(step, Exception):
            raise step
        what, _, number = step.partition(" ")
        data = CONTENT[start:end]
        if what in ("cut", "fail"):
            data = data[: int(number)]
        yield data[: len(data) // 2]
        yield data[len(data) // 2 :] + (b"more" if what == "more" else b"")
        if what == "fail":
            raise ConnectionError("connection reset")


def _read(answers: Answers, start: int, end: int) -> tuple[bytes, list[float]]:
    pauses: list[float] = []
    return read_range(answers, WHERE, start, end, pauses.append), pauses


def test_a_range_comes_as_it_is() -> None:
    answers = Answers()
    assert _read(answers, 10, 500) == (CONTENT[10:500], [])
    assert answers.asked == [(10, 500)]
    assert _read(answers, 7, 7) == (b"", [])


def test_a_read_that_was_cut_short_goes_on_at_its_offset() -> None:
    answers = Answers("cut 100", "fail 50")
    assert _read(answers, 10, 500)[0] == CONTENT[10:500]
    assert answers.asked == [(10, 500), (110, 500), (160, 500)]


def test_too_many_bytes_are_not_taken_for_the_right_ones() -> None:
    answers = Answers("cut 100", "more")
    assert _read(answers, 0, 500)[0] == CONTENT[:500]
    assert answers.asked == [(0, 500), (100, 500), (100, 500)]


@given(st.lists(st.sampled_from(["cut 0", "cut 3", "fail 0", "fail 9", "more", "right"]), max_size=ATTEMPTS - 1))
def test_any_few_faults_change_nothing(plan: list[str]) -> None:
    assert _read(Answers(*plan), 3, 300)[0] == CONTENT[3:300]


def test_a_read_without_progress_is_given_up() -> None:
    answers = Answers(*["fail 0"] * ATTEMPTS)
    with pytest.raises(SourceError, match=r"s3://box/a cannot be read on: .*; the same command goes on there"):
        _read(answers, 0, 10)
    assert len(answers.asked) == ATTEMPTS


def test_progress_begins_the_count_anew() -> None:
    assert _read(Answers(*["fail 1"] * 30), 0, 100)[0] == CONTENT[:100]


def test_an_object_that_changed_is_an_error_at_once() -> None:
    answers = Answers("cut 5", ObjectChanged())
    with pytest.raises(SourceError, match="changed while it was read"):
        _read(answers, 0, 10)
    assert len(answers.asked) == 2


def test_a_refusal_for_good_is_not_repeated() -> None:
    answers = Answers(FileNotFoundError("x"))
    with pytest.raises(SourceError, match="no such object"):
        _read(answers, 0, 10)
    assert len(answers.asked) == 1
