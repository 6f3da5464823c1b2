"""MongoDB's Extended JSON: `{"$oid": …}`, `{"$date": …}`, `{"$numberLong": …}` and others as plain values."""

from __future__ import annotations

import uuid
from base64 import b64decode
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from .plain_values import decimal_value, iso_instant


def plain_values(value: Any) -> Any:
    """A JSON value with plain values in place of typed ones; an object that is none of these stays as it is."""
    if isinstance(value, list):
        return [plain_values(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    record = cast("dict[str, Any]", value)
    for key in record if len(record) <= 2 else ():
        if key in _TYPES and (len(record) == 1 or (key == "$binary" and "$type" in record)):
            try:
                return _TYPES[key](record[key])
            except (ValueError, TypeError, KeyError, OverflowError, InvalidOperation):
                break
    return {key: plain_values(one) for key, one in record.items()}


def _date(value: Any) -> str:
    value = plain_values(value)
    if isinstance(value, str):
        return value
    return iso_instant(_milliseconds(value))


def _milliseconds(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("no milliseconds")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _double(value: Any) -> float | None:
    number = float(_text(value))
    return number if number - number == 0 else None


def _decimal(value: Any) -> Any:
    number = Decimal(_text(value))
    return decimal_value(number) if number.is_finite() else None


def _binary(value: Any) -> str:
    if isinstance(value, str):
        return value
    found = cast("dict[str, str]", value)
    encoded = _text(found["base64"])
    return str(uuid.UUID(bytes=b64decode(encoded))) if found["subType"] == "04" else encoded


_TYPES: dict[str, Callable[[Any], Any]] = {
    "$oid": _text,
    "$date": _date,
    "$numberInt": lambda value: int(_text(value)),
    "$numberLong": lambda value: int(_text(value)),
    "$numberDouble": _double,
    "$numberDecimal": _decimal,
    "$uuid": _text,
    "$symbol": _text,
    "$binary": _binary,
}
