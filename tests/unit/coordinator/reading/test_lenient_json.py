"""Lines that the strict parser refuses: what is taken all the same, and what stays refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from embedfleet.coordinator.reading.lenient_json import parse_line
from embedfleet.coordinator.reading.records import Noted, Reject

HALVES, ODD = "halves_removed", "not_finite"


@pytest.mark.parametrize(
    ("line", "record", "notes"),
    [
        (rb'{"t":"nice \ud83d"}', {"t": "nice "}, (HALVES,)),
        (rb'{"t":"\uDE00x","u":["\ud83d\ude00"]}', {"t": "x", "u": ["\U0001f600"]}, (HALVES,)),
        (rb'{"a\ud800":1,"b":{"c\udfff":[]}}', {"a": 1, "b": {"c": []}}, (HALVES,)),
        (b'{"n":NaN,"m":[-Infinity,{"o":Infinity}]}', {"n": None, "m": [None, {"o": None}]}, (ODD,)),
        (b'{"n":1e999,"m":-1E+400,"o":1e-400}', {"n": None, "m": None, "o": 0.0}, (ODD,)),
        (b'{"n":' + b"9" * 400 + b"}", {"n": None}, (ODD,)),
        (
            rb'{"n":NaN,"t":"\ud83d","i":12345678901234567890,"j":123456789012345678901}',
            {"n": None, "t": "", "i": 12345678901234567890, "j": 1.2345678901234568e20},
            (HALVES, ODD),
        ),
        (b'{"t":"NaN"}', {"t": "NaN"}, ()),
        (rb'{"t":"\ud83d\ude00"}', {"t": "\U0001f600"}, ()),
    ],
)
def test_what_is_taken(line: bytes, record: dict[str, Any], notes: tuple[str, ...]) -> None:
    assert parse_line(line) == (Noted(record, notes) if notes else record)
    orjson.dumps(record)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"NaN", "record is a float, not an object"),
        (b"[NaN]", "record is an array, not an object"),
        (b'{"t":nan}', "not JSON: "),
        (b'{"t":NaN', "not JSON: "),
        (b'{"t":NaN,"u":"\xff"}', "invalid UTF-8 at byte 14"),
        (b'{"t":NaN,"u":"a\x00"}', "not JSON: "),
        (b'{"n":' + b"[" * 100_000 + b"NaN", "not JSON: "),
        (b'{"n":' + b"[" * 900 + b"NaN" + b"]" * 900 + b"}", ""),
    ],
)
def test_what_stays_refused(line: bytes, reason: str) -> None:
    found = parse_line(line)
    if not reason:  # how deep Python goes is its own affair: the metadata is refused for its depth later
        assert isinstance(found, Reject | Noted)
        return
    assert isinstance(found, Reject)
    assert found.reason.startswith(reason)
