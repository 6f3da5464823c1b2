"""Filters over the chunks' metadata, as conditions of Qdrant's Edge engine. What a value matches is the same for all of them:
`spellings` and `number_span` say it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal
from unicodedata import normalize

import msgspec
import numpy as np

from .date_span import DateSpan, date_span

Relation = Literal["=", ">", ">=", "<", "<="]

METADATA = "metadata."

HOLDS: dict[Relation, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
"""What a relation other than `=` means for two numbers."""


class MetadataFilter(msgspec.Struct, frozen=True):
    """Chunks whose value at `key` of the metadata has this relation to one of `values`. Only `=` takes several."""

    key: str
    values: tuple[str, ...]
    relation: Relation = "="


def metadata_filter(wanted: Iterable[MetadataFilter], shard: Any) -> Any:
    """A filter for points that match all of `wanted`; None without any.

    Of a list in the metadata, any element may match. Whole numbers from 2^53 on are looked up in the shard, since the engine
    compares them as doubles.
    """
    import qdrant_edge as edge

    conditions: list[Any] = [edge.Filter(should=_conditions(one, shard)) for one in wanted]
    return edge.Filter(must=conditions) if conditions else None


def comparable(key: str, value: str) -> Any:
    """A filter for points with any value at `key` that a range with the bound `value` may find: numbers, or dates."""
    import qdrant_edge as edge

    where, some = METADATA + key, list[Any]()
    if number_span(value) is not None:
        some.append(edge.FieldCondition(where, range=edge.RangeFloat(gte=-math.inf, lte=math.inf)))
    if date_span(value) is not None:
        some.append(edge.FieldCondition(where, range=edge.RangeDateTime(gte="0001-01-01T00:00:00Z")))
    return edge.Filter(should=some)


def _conditions(one: MetadataFilter, shard: Any) -> list[Any]:
    """Conditions of which any may hold."""
    if one.relation == "=":
        return _equal_to_any(one.key, one.values, shard)
    (value,) = one.values
    found = list[Any]()
    if number_span(value) is not None:
        found += _numbers_in_range(one.key, one.relation, value, shard)
    if (dates := date_span(value)) is not None:
        found.append(_dates_in_range(one.key, one.relation, dates))
    return found


def _equal_to_any(key: str, values: Sequence[str], shard: Any) -> list[Any]:
    """A value matches as text, and as number, boolean or null if it can be read as one."""
    import qdrant_edge as edge

    where = METADATA + key
    spelled = [one for value in values for one in spellings(value)]
    texts = [one for one in spelled if isinstance(one, str)]
    whole = [one for one in spelled if isinstance(one, int) and not isinstance(one, bool)]
    found: list[Any] = [edge.FieldCondition(where, match=edge.MatchAny(texts))]
    if whole:
        found.append(edge.FieldCondition(where, match=edge.MatchAny(whole)))
    # The binding of 0.9.0 takes a Python bool for an int, which matches no boolean; not numpy's.
    truths: list[Any] = [np.bool_(one) for one in spelled if isinstance(one, bool)]
    found += [edge.FieldCondition(where, match=edge.MatchValue(one)) for one in truths]
    if "null" in values:
        found.append(edge.IsNullCondition(where))
    for value in values:
        if (span := number_span(value)) is not None:
            near = edge.FieldCondition(where, range=edge.RangeFloat(gte=span[0], lte=span[1]))
            if _shares_a_double(value):
                number = int(value)
                near = _looked_up(shard, key, near, found, lambda there, number=number: there == number)
            found = [*found, near, *_short_spans(where, value)]
    return found


def _numbers_in_range(key: str, relation: Relation, value: str, shard: Any) -> list[Any]:
    """Numbers beyond the value; for `>=` and `<=` also those that `=` finds."""
    import qdrant_edge as edge

    where, span = METADATA + key, number_span(value)
    assert span is not None, "checked before"
    low, high = span
    if _shares_a_double(value):
        beyond = edge.RangeFloat(gt=high) if relation in (">", ">=") else edge.RangeFloat(lt=low)
        found = [edge.FieldCondition(where, range=beyond)]
        near = edge.FieldCondition(where, range=edge.RangeFloat(gte=low, lte=high))
        holds, number = HOLDS[relation], int(value)
        return [*found, _looked_up(shard, key, near, found, lambda there: holds(there, number))]
    match relation:
        case ">":
            bound = edge.RangeFloat(gt=high)
        case ">=":
            bound = edge.RangeFloat(gte=low)
        case "<":
            bound = edge.RangeFloat(lt=low)
        case _:
            bound = edge.RangeFloat(lte=high)
    found = [edge.FieldCondition(where, range=bound)]
    return [*found, *_short_spans(where, value)] if relation in (">=", "<=") else found


def _dates_in_range(key: str, relation: Relation, dates: DateSpan) -> Any:
    import qdrant_edge as edge

    match relation:
        case ">":
            bound = edge.RangeDateTime(gt=dates.last)
        case ">=":
            bound = edge.RangeDateTime(gte=dates.first)
        case "<":
            bound = edge.RangeDateTime(lt=dates.first)
        case _:
            bound = edge.RangeDateTime(lte=dates.last)
    return edge.FieldCondition(METADATA + key, range=bound)


def _short_spans(where: str, value: str) -> list[Any]:
    import qdrant_edge as edge

    spans = [(math.nextafter(one, -math.inf), math.nextafter(one, math.inf)) for one in short_doubles(value)]
    return [edge.FieldCondition(where, range=edge.RangeFloat(gte=low, lte=high)) for low, high in spans]


_NUMBER = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_DIGITS = re.compile(r"[+-]?[0-9]{1,25}", re.ASCII)
"""Longer ones are beyond 64 bits."""

_EXACT = 1 << 53
"""Below it every whole number has a double of its own; 2^53 shares its double with 2^53 + 1."""


def spellings(value: str) -> list[str | int | bool]:
    """The metadata values that a value given as text matches: the text in NFC, NFD and as it is (metadata are not
    normalized), a boolean, a whole number of 64 bits."""
    found: list[str | int | bool] = [*dict.fromkeys((value, normalize("NFC", value), normalize("NFD", value)))]
    if value.lower() in ("true", "false"):
        found.append(value.lower() == "true")
    if _DIGITS.fullmatch(value) and -(1 << 63) <= int(value) < 1 << 63:
        found.append(int(value))
    return found


def number_span(value: str) -> tuple[float, float] | None:
    """The range of doubles that match a value given as text; None if it is not a finite number.

    Whole numbers of 64 bits from 2^53 on share their doubles with others: see `_looked_up`. The range of any other number is
    wider than its double, since the engine reads doubles from JSON and may be off by the last bit.
    """
    if not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    if (number.is_integer() and abs(number) <= _EXACT) or _shares_a_double(value):
        return number, number
    low, high = math.nextafter(number, -math.inf), math.nextafter(number, math.inf)
    return low or number, high or number  # beside the smallest doubles there is 0, which is another number


def short_doubles(value: str) -> list[float]:
    """The doubles that a decimal fraction becomes if it was stored as float32 or float16: 0.10000000149011612 for 0.1.

    Only if the fraction is the shortest way to write that number: 1000.3 must not find 1000.5, its nearest float16.
    """
    number, found = float(value), list[float]()
    if not number.is_integer():  # nor for inf; whole numbers are compared exactly
        with np.errstate(all="ignore"):
            for short in (np.float32(number), np.float16(number)):
                if float(str(short)) == number != float(short):
                    found.append(float(short))
    return found


def _shares_a_double(value: str) -> bool:
    """Whether a text is a whole number of 64 bits whose double stands for other numbers too. The engine itself matches such
    a number only if it is signed and the metadata have it as a whole number."""
    return bool(_DIGITS.fullmatch(value)) and abs(int(value)) >= _EXACT and -(1 << 63) <= int(value) < 1 << 64


_STEP = re.compile(r'"([^"]*)"|([^".\[\]]+)|\[([0-9]*)\]')


def values_at(payload: Any, key: str) -> list[Any]:
    """The values at a path of keys, as the engine reads it: every element of a list, or the one whose number is in brackets."""
    found = [payload]
    for step in _STEP.finditer(key):
        name, index = step[1] if step[1] is not None else step[2], step[3]
        if name is not None:
            found = [one[name] for one in found if isinstance(one, dict) and name in one]
        else:
            lists = [one for one in found if isinstance(one, list)]
            found = [item for one in lists for item in (one[int(index) : int(index) + 1] if index else one)]
    return [item for one in found for item in (one if isinstance(one, list) else (one,))]


def _looked_up(shard: Any, key: str, near: Any, matched: Sequence[Any], holds: Callable[[Any], bool]) -> Any:
    """A condition for the points with a number for which `holds` is true, out of those that match `near`, which compares
    doubles.

    Skips points that the conditions `matched` find already.
    """
    import qdrant_edge as edge

    ids: set[Any] = set()
    start: Any = None
    only = edge.Filter(must=[near], must_not=list(matched))
    while True:
        request = edge.ScrollRequest(
            offset=start, limit=1_000, filter=only, with_payload=["metadata"], with_vector=False
        )
        points, start = shard.scroll(request)
        for one in points:
            numbers = [there for there in values_at(one.payload["metadata"], key) if _is_number(there)]
            if any(map(holds, numbers)):
                ids.add(one.id)
        if start is None:
            return edge.HasIdCondition(ids)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
