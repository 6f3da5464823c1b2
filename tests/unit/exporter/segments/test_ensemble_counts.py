"""Tokens of an ensemble's rows, from those of its members."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from embedfleet.exporter.segments.ensemble_writer import token_counts


def member(n_tokens: list[int | None], tokens_cut: list[int | None] | None, truncated: list[bool] | None = None) -> Any:
    columns = {"n_tokens": pa.array(n_tokens, pa.int32())}
    if tokens_cut is not None:
        columns["tokens_cut"] = pa.array(tokens_cut, pa.int32())
    return pa.table(columns | {"truncated": pa.array(truncated or [False] * len(n_tokens))})


def test_what_a_member_cut_is_a_share_of_that_members_text() -> None:
    """A text of 512 tokens that one member cuts at 128 and one at 256 has 512 tokens in all, of which 75% are in no vector."""
    short, long, whole = (
        member([128, 30, 0], [384, 0, 0]),
        member([256, 34, 0], [256, 0, 0]),
        member([512, 31, 0], None),
    )
    for order in ([short, long, whole], [whole, long, short]):
        tokens, cut = token_counts(order)
        assert tokens.tolist() == [128, 34, 0]
        assert cut.tolist() == [384, 0, 0]


def test_members_that_did_not_count_make_the_count_unknown() -> None:
    old = member([256, 9, None], None, [True, False, False])
    tokens, cut = token_counts([old, member([64, 10, 7], [300, 0, None])])
    assert tokens.tolist() == [256, 10, 7]
    assert cut.tolist() == [-1, 0, -1]
