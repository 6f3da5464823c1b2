"""The time that a date stands for: a bound of a filter over dates."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime
from typing import NamedTuple

_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?", re.ASCII)
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}[0-9:.+Z-]*", re.ASCII)


class DateSpan(NamedTuple):
    """The first and the last instant, as RFC 3339 has them, in UTC."""

    first: str
    last: str


def date_span(value: str) -> DateSpan | None:
    """The whole of a year (`2024`), month (`2024-01`) or day (`2024-01-31`); or one instant, in UTC if it names no zone.

    None for a text that is no date.
    """
    try:
        if parts := _DATE.fullmatch(value):
            return _days(*(int(part) for part in parts.groups() if part is not None))
        if not _INSTANT.fullmatch(value):
            return None
        instant = datetime.fromisoformat(value)
        at = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # month 13, say; or a zone that leads beyond the years 1 to 9999
        return None
    return DateSpan(at, at)


def _days(year: int, month: int | None = None, day: int | None = None) -> DateSpan:
    """A year, a month or a day. ValueError if there is no such date."""
    last_month = 12 if month is None else month
    first = date(year, 1 if month is None else month, 1 if day is None else day)
    last = date(year, last_month, monthrange(year, last_month)[1] if day is None else day)
    return DateSpan(f"{first}T00:00:00Z", f"{last}T23:59:59.999999999Z")
