from __future__ import annotations

import pytest
from embedfleet.protocol.index.date_span import date_span

END = "T23:59:59.999999999Z"


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("2024", "2024-01-01T00:00:00Z", "2024-12-31" + END),
        ("2024-02", "2024-02-01T00:00:00Z", "2024-02-29" + END),
        ("2023-02", "2023-02-01T00:00:00Z", "2023-02-28" + END),
        ("2024-12-31", "2024-12-31T00:00:00Z", "2024-12-31" + END),
        ("0001", "0001-01-01T00:00:00Z", "0001-12-31" + END),
    ],
)
def test_a_year_a_month_or_a_day_is_the_whole_of_it(value: str, first: str, last: str) -> None:
    assert date_span(value) == (first, last)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00+00:00"),
        ("2024-01-31 10:00", "2024-01-31T10:00:00+00:00"),
        ("2024-01-31T10:00:00.25+02:00", "2024-01-31T08:00:00.250000+00:00"),
        ("2024-01-01T00:30-01:00", "2024-01-01T01:30:00+00:00"),
    ],
)
def test_a_time_of_day_is_an_instant(value: str, at: str) -> None:
    assert date_span(value) == (at, at)


@pytest.mark.parametrize(
    "value",
    [
        "", "soon", "24", "20240131", "2024-00", "2024-13", "2024-1", "2024-02-30", "2024-01-00", "0000", "2024-W05-1",
        "2024-01-31T25:00", "2024-01-31T", "2024-01-31T10:00 CET", "0001-01-01T00:00+14:00", "٢٠٢٤", "2024\n",
    ],
)  # fmt: skip
def test_what_is_no_date(value: str) -> None:
    assert date_span(value) is None
