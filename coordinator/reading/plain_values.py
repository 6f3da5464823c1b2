"""Convert decimals, times and durations, which JSON lacks, to plain values that do not depend on installed libraries."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def decimal_value(value: Decimal) -> int | float | str:
    """An int for a whole number of 64 bits, a float if that is exact, else text with all its digits."""
    whole = int(value)
    if whole == value:
        return whole if -(1 << 63) <= whole < 1 << 64 else str(Decimal(whole))  # str() of an int takes 4,300 digits
    near = float(value)
    return near if Decimal(repr(near)) == value else format(value, "f")


def iso_timestamps(values: npt.NDArray[np.int64], unit: str, *, zoned: bool) -> list[str | None]:
    """Counts of `unit` since 1970 as ISO 8601, UTC if `zoned`; no fraction if its digits are all zero."""
    texts: list[str] = np.datetime_as_string(values.view(f"datetime64[{unit}]")).tolist()
    zeros = "." + "0" * _DIGITS[unit]
    zone = "+00:00" if zoned else ""
    return [None if text == "NaT" else text.removesuffix(zeros) + zone for text in texts]


def iso_instant(milliseconds: int) -> str:
    """Milliseconds since 1970 as ISO 8601, UTC."""
    (text,) = iso_timestamps(np.array([milliseconds], np.int64), "ms", zoned=True)
    return str(text)


def iso_dates(days: npt.NDArray[np.int64]) -> list[str]:
    """Days since 1970 as ISO 8601."""
    return np.datetime_as_string(days.view("datetime64[D]")).tolist()


def iso_time(value: int, unit: str) -> str:
    """A count of `unit` since midnight as ISO 8601."""
    seconds, rest = divmod(value, PER_SECOND[unit])
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}{_fraction(rest, unit)}"


def iso_duration(value: int, unit: str) -> str:
    """A count of `unit` as ISO 8601: `P1DT2H`, `-PT0.5S`."""
    days, rest = divmod(abs(value), 86_400 * PER_SECOND[unit])
    return ("-" if value < 0 else "") + _period([(days, "D")], rest, unit)


def iso_interval(months: int, days: int, nanoseconds: int) -> str:
    """A calendar interval as ISO 8601: `P14M3DT1.5S`; each part has its own sign."""
    sign = "-" if nanoseconds < 0 else ""
    return _period([(months, "M"), (days, "D")], abs(nanoseconds), "ns", sign)


def _period(parts: list[tuple[int, str]], rest: int, unit: str, sign: str = "") -> str:
    """The text of a period. `rest` counts `unit`s; parts that are zero are left out."""
    date = "".join(f"{count}{letter}" for count, letter in parts if count)
    seconds, part = divmod(rest, PER_SECOND[unit])
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    time = "".join(f"{sign}{count}{letter}" for count, letter in ((hours, "H"), (minutes, "M")) if count)
    if seconds or part:
        time += f"{sign}{seconds}{_fraction(part, unit).rstrip('0') if part else ''}S"
    return f"P{date}{'T' + time if time else ''}" if date or time else "PT0S"


def _fraction(rest: int, unit: str) -> str:
    return f".{rest:0{_DIGITS[unit]}d}" if rest else ""


def map_key(value: Any) -> str:
    """A key of a map as text, since JSON keys must be text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return text_or_base64(value)
    import orjson

    return orjson.dumps(value, default=str).decode()


def text_or_base64(value: bytes) -> str:
    """Bytes as text if they are UTF-8, else as base64."""
    from base64 import b64encode

    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()
