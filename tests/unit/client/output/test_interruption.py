"""Messages about a run that does not come to its end."""

from __future__ import annotations

import pytest
from embedfleet.client.output.interruption import drain_notice, the_same, uncommitted_notice


@pytest.mark.parametrize(
    ("in_flight", "timeout", "grace", "words"),
    [
        (2, None, None, ("finishing 2 batches in flight", "600 s at most", "Ctrl-C once more to stop at once")),
        (1, 5.0, None, ("finishing 1 batch in flight", "given up after 5 s", "once more to stop at once")),
        (0, None, None, ("finishing what is in flight",)),
        (3, None, 25.0, ("finishing 3 batches in flight, for 25 s at most", "once more to stop at once")),
    ],
)
def test_a_drain_says_what_it_waits_for_and_how_long(
    in_flight: int, timeout: float | None, grace: float | None, words: tuple[str, ...]
) -> None:
    notice = drain_notice(in_flight, timeout, grace)
    assert all(one in notice for one in words), notice


def test_the_command_that_resumes() -> None:
    assert [the_same(one) for one in (False, True)] == ["the same command", "the same command without --restart"]


def test_rows_that_were_computed_and_not_committed_are_named() -> None:
    rows = {"a": (20, 16), "b": (5, 0), "c": (1, 1_200)}
    notice = uncommitted_notice(rows, "the same command")
    assert notice.startswith("a: 20 rows committed, 16 computed but not committed; c: 1 row committed, 1,200 computed")
    assert notice.endswith("; the same command computes these again")
    assert uncommitted_notice({"b": (5, 0)}, "the same command") == ""
