"""Queries for Qdrant's Edge engine: nearest by one signal, filtered by metadata.

Shared by the client's search and the exporter's candidates. The engine is imported when a query is built, so that a process
without queries does not need it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from unicodedata import normalize

import msgspec
import numpy as np
import numpy.typing as npt

from ..finished_run.payload import Payload
from ..vectors.metadata_terms import query_weights


class SparseQuery(msgspec.Struct, frozen=True):
    """One sparse query vector: token indices and their weights."""

    indices: list[int]
    values: list[float]


QueryVector = npt.NDArray[np.float32] | SparseQuery
"""Dense (dim,), late interaction (tokens, dim), or sparse."""


def with_terms(vector: SparseQuery, text: str) -> SparseQuery:
    """Append the query's words as metadata terms. Their indices are above all of the model's."""
    indices, values = query_weights(text)
    return SparseQuery([*vector.indices, *indices.tolist()], [*vector.values, *values.tolist()])


def drop_empty(vectors: Mapping[str, QueryVector]) -> dict[str, QueryVector]:
    """Drop query vectors without terms or tokens, or with zeros only: they would match every chunk equally well.

    They come from queries without a word that the model knows."""
    return {
        name: one
        for name, one in vectors.items()
        if np.any(np.asarray(one.values if isinstance(one, SparseQuery) else one))
    }


def nearest(name: str, vector: QueryVector) -> Any:
    """The points nearest to a query vector by the signal `name`."""
    import qdrant_edge as edge

    if isinstance(vector, SparseQuery):
        return edge.Query.Nearest(edge.SparseVector(indices=vector.indices, values=vector.values), using=name)
    return edge.Query.Nearest(vector.tolist(), using=name)


def nearest_request(name: str, vector: QueryVector, limit: int, payload: Any, only: Any = None) -> Any:
    """A request for one signal's best `limit` points; exact, even if the engine has a graph over the vectors."""
    import qdrant_edge as edge

    exact, query = edge.SearchParams(exact=True), nearest(name, vector)
    return edge.QueryRequest(limit=limit, query=query, with_payload=payload, filter=only, params=exact)


def payloads(shard: Any, ids: Sequence[Any]) -> dict[str, Payload]:
    """The whole payload of each of the points `ids`, by the point's id."""
    found = shard.retrieve(list(ids), with_payload=True, with_vector=False)
    return {str(one.id): cast("Payload", one.payload or {}) for one in found}


def signal_scores(shard: Any, signals: Mapping[str, QueryVector], ids: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Each signal's score of each of the points `ids`, by point id. One query per signal, over these points only.

    A signal is absent if the point has no vector for it, or shares no term with the query.
    """
    import qdrant_edge as edge

    found: dict[str, dict[str, float]] = {str(one): {} for one in ids}
    if ids and signals:
        only = edge.Filter(must=[edge.HasIdCondition(set(ids))])
        requests = [nearest_request(name, vector, len(ids), False, only) for name, vector in signals.items()]
        answers = shard.query_batch(edge.QueryBatchRequest(requests))
        for name, points in zip(signals, answers, strict=True):
            for point in points:
                found[str(point.id)][name] = point.score
    return found


def metadata_filter(wanted: Iterable[tuple[str, str]], shard: Any) -> Any:
    """A filter for points whose `metadata.KEY` equals VALUE, for all pairs; None without pairs.

    A value matches as text, and as number, boolean or null if it can be read as one. Whole numbers from 2^53 on are looked
    up in the shard, since the engine may compare them as doubles.
    """
    import qdrant_edge as edge

    conditions: list[Any] = []
    for key, value in wanted:
        where = f"metadata.{key}"
        some: list[Any] = [
            edge.FieldCondition(where, match=edge.MatchValue(_engine_value(one))) for one in spellings(value)
        ]
        if (span := number_span(value)) is not None:
            near = edge.FieldCondition(where, range=edge.RangeFloat(gte=span[0], lte=span[1]))
            some.append(_exact_number(shard, key, int(value), near, some) if _shares_a_double(value) else near)
            spans = [(math.nextafter(one, -math.inf), math.nextafter(one, math.inf)) for one in short_doubles(value)]
            some += [edge.FieldCondition(where, range=edge.RangeFloat(gte=low, lte=high)) for low, high in spans]
        if value == "null":
            some.append(edge.IsNullCondition(where))
        conditions.append(edge.Filter(should=some))
    return edge.Filter(must=conditions) if conditions else None


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

    Whole numbers of 64 bits from 2^53 on share their doubles with others: see `_exact_number`. The range of any other number is
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


def _exact_number(shard: Any, key: str, number: int, near: Any, matched: Sequence[Any]) -> Any:
    """A condition for the points that have exactly this number, out of those that match `near`, which compares doubles.

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
        ids.update(one.id for one in points if number in values_at(one.payload["metadata"], key))
        if start is None:
            return edge.HasIdCondition(ids)


def _engine_value(value: str | int | bool) -> Any:
    """The value for the engine. Its binding of 0.9.0 takes a Python bool for an int, which matches no boolean; not numpy's."""
    return np.bool_(value) if isinstance(value, bool) else value
