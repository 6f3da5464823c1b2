"""Truncation: how many texts a model cut at its limit, and how many of their tokens are in no vector.

Vector segments have it row by row, in `truncated` and `tokens_cut`; a segment of 0.1.0 has the first alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from .segment_info import VectorSegmentInfo

TELLING = 0.01
"""Share of cut texts beyond which people hear what helps."""


class Truncation(msgspec.Struct, frozen=True):
    """Of one vector, or of a part of it."""

    texts: int = 0
    truncated: int = 0
    """Texts that were cut."""
    tokens: int = 0
    """Tokens that were computed, special ones included."""
    tokens_cut: int | None = 0
    """Tokens that were left out, of very long texts by an estimate; None where a part of them was not counted."""

    @property
    def share_truncated(self) -> float:
        """Of the texts, 0 to 1."""
        return self.truncated / self.texts if self.texts else 0.0

    @property
    def share_cut(self) -> float | None:
        """Of the tokens that the texts have, 0 to 1; None where it is not known."""
        if self.tokens_cut is None:
            return None
        return self.tokens_cut / max(self.tokens + self.tokens_cut, 1)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        share = self.share_cut
        return {
            "truncated": self.truncated,
            "truncated_share": round(self.share_truncated, 6),
            "tokens_cut": self.tokens_cut,
            "tokens_cut_share": None if share is None else round(share, 6),
        }


def add_up(parts: Iterable[Truncation]) -> Truncation:
    """All of them together."""
    found = list(parts)
    cuts = [one.tokens_cut for one in found]
    return Truncation(
        texts=sum(one.texts for one in found),
        truncated=sum(one.truncated for one in found),
        tokens=sum(one.tokens for one in found),
        tokens_cut=None if None in cuts else sum(one or 0 for one in cuts),
    )


def of_segment(path: Path, info: VectorSegmentInfo) -> Truncation:
    """What a segment's footer says of it. That of a 0.1.0 one says nothing: its rows are looked at, and if none was cut,
    no token was. What Arrow raises for a torn file.
    """
    if info.truncated is not None:
        return Truncation(info.rows, info.truncated, info.tokens, info.tokens_cut)
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        column: Any = file.read(columns=["truncated"]).column("truncated")
    truncated = sum(one.true_count for one in column.chunks)
    return Truncation(info.rows, truncated, info.tokens, None if truncated else 0)
