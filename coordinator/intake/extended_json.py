"""MongoDB's Extended JSON: `{"$oid": …}`, `{"$date": …}`, `{"$numberLong": …}` and others as plain values."""

from __future__ import annotations

import uuid
from base64 import b64decode
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from ...protocol.source.intake_notes import NOT_FINITE
from ..reading.plain_values import decimal_value, iso_instant
from ..reading.records import Raw

DECIMAL_EXPONENT = 6_176
"""The largest absolute exponent of a Decimal128. A number beyond it would be written with that many digits."""


def plain_values(value: Any, met: list[str] | None = None) -> Any:
    """Replace typed values inside a JSON value by plain ones; other objects stay as they are.

    If NaN or infinity became null, add NOT_FINITE to `met`, once.
    """
    if isinstance(value, list):
        return [plain_values(one, met) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    record = cast("Raw", value)
    for key in record if len(record) <= 2 else ():
        if key in _TYPES and (len(record) == 1 or (key == "$binary" and "$type" in record)):
            try:
                found = _TYPES[key](record[key])
            except (ValueError, TypeError, KeyError, OverflowError, InvalidOperation):
                break
            if found is None and met is not None and NOT_FINITE not in met:
                met.append(NOT_FINITE)
            return found
    return {key: plain_values(one, met) for key, one in record.items()}


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
    if not number.is_finite():
        return None
    if max(abs(number.adjusted()), abs(int(number.as_tuple().exponent))) > DECIMAL_EXPONENT:
        raise ValueError("no Decimal128")
    return decimal_value(number)


def _whole(value: Any) -> int:
    number = int(_text(value))
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError("JSON has no such number here")
    return number


def _binary(value: Any) -> str:
    if isinstance(value, str):
        return value
    found = cast("dict[str, str]", value)
    encoded = _text(found["base64"])
    return str(uuid.UUID(bytes=b64decode(encoded))) if found["subType"] == "04" else encoded


_TYPES: dict[str, Callable[[Any], Any]] = {
    "$oid": _text,
    "$date": _date,
    "$numberInt": _whole,
    "$numberLong": _whole,
    "$numberDouble": _double,
    "$numberDecimal": _decimal,
    "$uuid": _text,
    "$symbol": _text,
    "$binary": _binary,
}
