from __future__ import annotations

import pytest
from embedfleet.client.session import drain_notice
from embedfleet.client.words import counted


@pytest.mark.parametrize(
    ("in_flight", "timeout", "grace", "words"),
    [
        (2, None, None, ("finishing 2 batches in flight", "600 s at most", "Ctrl-C once more to stop at once")),
        (1, 5.0, None, ("finishing 1 batch in flight", "given up after 5 s", "once more to stop at once")),
        (0, None, None, ("finishing what is in flight",)),
        (3, None, 25.0, ("finishing 3 batches in flight, for 25 s at most", "once more to stop at once")),
    ],
)
def test_a_drain_says_what_it_waits_for_and_how_long(in_flight, timeout, grace, words):
    said = drain_notice(in_flight, timeout, grace)
    assert all(one in said for one in words), said


def test_one_is_not_many():
    assert [counted(number, "query", "queries") for number in (0, 1, 2000)] == ["0 queries", "1 query", "2,000 queries"]
    assert counted(1, "time") == "1 time"
