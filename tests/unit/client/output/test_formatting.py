"""Figures for people: rounding makes nothing of what is something, and everything of what is not."""

from __future__ import annotations

import pytest
from embedfleet.client.output.formatting import human_bytes, percent, pluralize


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.0, 1, "0.0%"),
        (1.0, 1, "100.0%"),
        (0.125, 1, "12.5%"),
        (1e-9, 1, "<0.1%"),
        (39_999 / 40_000, 2, ">99.99%"),
        (1 / 40_000, 2, "<0.01%"),
        (2_399 / 2_400, 1, ">99.9%"),
        (2_399 / 2_400, 2, "99.96%"),
        (0.997, 0, ">99%"),
        (0.003, 0, "<1%"),
        (0.5, 0, "50%"),
    ],
)
def test_a_share_in_percent(share: float, digits: int, text: str) -> None:
    assert percent(share, digits) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 KB"), (999_949, "999.9 KB"), (999_950, "1.0 MB"), (10**9, "1.0 GB")],
)
def test_a_size(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_one_is_not_many() -> None:
    assert [pluralize(number, "query", "queries") for number in (0, 1, 2000)] == [
        "0 queries",
        "1 query",
        "2,000 queries",
    ]
    assert pluralize(1, "time") == "1 time"
