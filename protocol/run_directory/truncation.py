"""Truncation: how many texts a model cut at its limit of tokens, and how many tokens that removed.

Vector segments have it for each row, in `truncated` and `tokens_cut`; segments of 0.1.0 have only the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

if TYPE_CHECKING:
    from .segment_info import VectorSegmentInfo

NOTABLE_SHARE = 0.01
"""Above this share of cut texts, the output has a line with a remedy."""


class TruncationRecord(TypedDict):
    """A Truncation in JSON."""

    truncated: int
    truncated_share: float
    tokens_cut: int | None
    tokens_cut_share: float | None


class Truncation(msgspec.Struct, frozen=True):
    """The truncation of one vector, or of a part of it."""

    texts: int = 0
    truncated: int = 0
    """Texts that were cut."""
    tokens: int = 0
    """Tokens that were computed, special ones included."""
    tokens_cut: int | None = 0
    """Tokens that truncation removed, estimated for very long texts; None if some were not counted."""

    @property
    def share_truncated(self) -> float:
        """The share of texts that were cut, 0 to 1; 0 without texts."""
        return self.truncated / self.texts if self.texts else 0.0

    @property
    def share_cut(self) -> float | None:
        """The share of tokens that truncation removed, 0 to 1; None if they were not counted."""
        if self.tokens_cut is None:
            return None
        return self.tokens_cut / max(self.tokens + self.tokens_cut, 1)

    def record(self) -> TruncationRecord:
        """Counts and shares as JSON values."""
        share = self.share_cut
        return {
            "truncated": self.truncated,
            "truncated_share": round(self.share_truncated, 6),
            "tokens_cut": self.tokens_cut,
            "tokens_cut_share": None if share is None else round(share, 6),
        }


def sum_truncations(parts: Iterable[Truncation]) -> Truncation:
    """The sum of the parts."""
    found = list(parts)
    cuts = [one.tokens_cut for one in found]
    return Truncation(
        texts=sum(one.texts for one in found),
        truncated=sum(one.truncated for one in found),
        tokens=sum(one.tokens for one in found),
        tokens_cut=None if None in cuts else sum(one or 0 for one in cuts),
    )


def segment_truncation(path: Path, info: VectorSegmentInfo) -> Truncation:
    """The truncation of a segment, from its footer. A footer of 0.1.0 lacks it: then the rows are counted from the column,
    and the removed tokens are unknown if there are any. Raises Arrow's errors for a torn file."""
    if info.truncated is not None:
        return Truncation(info.rows, info.truncated, info.tokens, info.tokens_cut)
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        column: Any = file.read(columns=["truncated"]).column("truncated")
    truncated = sum(one.true_count for one in column.chunks)
    return Truncation(info.rows, truncated, info.tokens, None if truncated else 0)
