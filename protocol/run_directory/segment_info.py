"""What a segment says of itself, in the JSON object of its file's metadata. Apart from the tables, so that the client reads
a trail without loading Arrow first.
"""

from __future__ import annotations

import msgspec

from ..spec.run_spec import Storage


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far into the source a segment reaches: `records` records of file number `file` have been read."""

    file: int = 0
    records: int = 0


class Passed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Digests of what was read of the source up to a segment's cursor; a later intake recognises the source by them."""

    finished: tuple[str, ...] = ()
    """The digest of each file that was finished since the segment before; empty for a file that could not be read whole."""
    n_bytes: int = 0
    digest: str = ""
    """The digest of the first `n_bytes` unpacked bytes of the cursor's file, through the end of its last record. Of Parquet,
    bytes count as on the disk, through the end of the row group."""


class ChunkSegmentInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a chunk segment says of itself; `cursor` is where the next segment begins."""

    segment: int
    first_row: int
    rows: int
    rejected: int
    duplicates: int
    n_bytes: int = 0
    """UTF-8 bytes of the texts."""
    cursor: Cursor
    notes: dict[str, int] = {}
    """Records by what was done to them (`intake_notes.py`)."""
    passed: Passed | None = None
    """None in a directory of 0.1.0."""


class TokenVectors(msgspec.Struct, frozen=True):
    """How many token vectors the rows of a multivector have that are not in quarantine: together, and the extremes."""

    total: int
    fewest: int
    most: int


class VectorSegmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a vector segment says of itself. `digest` is `digest()` of its table."""

    vector: str
    segment: int
    first_row: int
    rows: int
    quarantined: int
    tokens: int
    stood_in: int = 0
    """Sparse rows whose weights are the metadata's."""
    unusable: int = 0
    """Sparse rows whose metadata was looked at and has weights that cannot be used, or some."""
    fingerprint: str
    """Of the pass, as in its `pass.json`."""
    digest: str
    token_vectors: TokenVectors | None = None
    """Of a multivector."""
    storage: Storage | None = None
    """How dense vectors are stored in this file. None for other forms, and in files of 0.1.0."""
    worst_cosine: float | None = None
    """For int8, the least cosine of a row to the computed vector."""
    truncated: int | None = None
    """Rows whose text was cut; None in a segment of 0.1.0, where only the column tells."""
    tokens_cut: int | None = None
    """Tokens that truncation removed; None if they were not counted."""
