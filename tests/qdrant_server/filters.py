"""Filters of points: those conditions that an upload sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client import grpc

from .values import is_empty, value_at

Matches = Callable[[grpc.PointStruct], bool]


def matcher(only: grpc.Filter) -> Matches:
    """Whether a point matches; every point matches an empty filter."""
    if only.HasField("min_should"):
        raise NotImplementedError("min_should")
    must, must_not, should = ([_condition(one) for one in group] for group in (only.must, only.must_not, only.should))

    def matches(point: grpc.PointStruct) -> bool:
        return (
            all(holds(point) for holds in must)
            and not any(holds(point) for holds in must_not)
            and (not should or any(holds(point) for holds in should))
        )

    return matches


def fields_of(only: grpc.Filter) -> set[str]:
    """The fields whose values a filter compares."""
    return {
        one.field.key for group in (only.must, only.must_not, only.should) for one in group if one.HasField("field")
    }


def _condition(asked: grpc.Condition) -> Matches:
    match asked.WhichOneof("condition_one_of"):
        case "has_id":
            ids = {(one.num, one.uuid) for one in asked.has_id.has_id}
            return lambda point: (point.id.num, point.id.uuid) in ids
        case "has_vector":
            name = asked.has_vector.has_vector
            return lambda point: name in point.vectors.vectors.vectors
        case "is_empty":
            key = asked.is_empty.key
            return lambda point: is_empty(point.payload.get(key))
        case "field":
            key, wanted = asked.field.key, _values(asked.field.match)
            return lambda point: value_at(point.payload, key) in wanted
        case "filter":
            return matcher(asked.filter)
        case other:
            raise NotImplementedError(f"a condition of the kind {other}")


def _values(asked: grpc.Match) -> list[Any]:
    match asked.WhichOneof("match_value"):
        case "keywords":
            return list(asked.keywords.strings)
        case "integer":
            return [asked.integer]
        case other:
            raise NotImplementedError(f"a match of the kind {other}")
