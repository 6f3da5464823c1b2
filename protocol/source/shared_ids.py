"""The reason of a record whose id was used before with another text: written by the intake and by a merge of shards."""

from __future__ import annotations

from collections.abc import Callable


def shared_id_reason(id_: str, row: int) -> str:
    """The reason, for a record with this id; `row` is the row that has the id."""
    before, after = _around(id_)
    return f"{before}{row}{after}"


def with_new_row(reason: str, id_: str, row_of: Callable[[int], int]) -> str:
    """The reason with its row replaced by `row_of(row)`. A reason of another kind is returned as it is."""
    before, after = _around(id_)
    if not (reason.startswith(before) and reason.endswith(after)):
        return reason
    number = reason[len(before) : len(reason) - len(after)]
    if not (number.isascii() and number.isdigit()):
        return reason
    return shared_id_reason(id_, row_of(int(number)))


def _around(id_: str) -> tuple[str, str]:
    return f"id {id_!r} was already used by row ", " with another text"
