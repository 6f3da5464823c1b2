"""The JSON object in the file metadata of a segment. Separate from `tables.py`, so that the client can do without Arrow."""

from __future__ import annotations

import msgspec

from ..spec.run_spec import Storage


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The position in the source after a segment: `records` records of file number `file` have been read."""

    file: int = 0
    records: int = 0


class Passed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Digests of the source up to a segment's cursor, so that a later intake can check that it is unchanged."""

    finished: tuple[str, ...] = ()
    """A digest of each file finished since the previous segment; empty for a file that could not be read to its end."""
    n_bytes: int = 0
    digest: str = ""
    """The digest of the first `n_bytes` unpacked bytes of the cursor's file, through the end of its last record. Of Parquet,
    bytes count as on the disk, through the end of the row group."""


class RecordSpan(msgspec.Struct, frozen=True, array_like=True):
    """Rows whose records follow each other in one file of the source."""

    file: int
    """As in `Cursor`."""
    first: int
    """The number of the first record in the file, from 1."""
    rows: int
    from_byte: int = 0
    """The byte of the file from which the records are numbered."""


class ChunkSegmentInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Info of a chunk segment. The next segment begins at `cursor`."""

    segment: int
    first_row: int
    rows: int
    rejected: int
    duplicates: int
    n_bytes: int = 0
    """UTF-8 bytes of the texts."""
    cursor: Cursor
    notes: dict[str, int] = {}
    """Records for each note of the intake (`intake_notes.py`)."""
    passed: Passed | None = None
    """None in a directory of 0.1.0."""
    records: tuple[RecordSpan, ...] = ()
    """In a segment of a shard: the records of its rows, so that a merge can name them. Empty in every other run."""


class TokenVectors(msgspec.Struct, frozen=True):
    """Counts of token vectors per row, over the rows of a multivector that are not in quarantine."""

    total: int
    fewest: int
    most: int


class VectorSegmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Info of a vector segment. `digest` is `tables.digest()` of its table."""

    vector: str
    segment: int
    first_row: int
    rows: int
    quarantined: int
    tokens: int
    stood_in: int = 0
    """Sparse rows with metadata weights."""
    unusable: int = 0
    """Sparse rows whose metadata was read and has some weights that cannot be used."""
    fingerprint: str
    """Fingerprint digest of the pass, as in its record."""
    digest: str
    token_vectors: TokenVectors | None = None
    """For a multivector."""
    storage: Storage | None = None
    """How dense vectors are stored in this file. None for other forms, and in files of 0.1.0."""
    worst_cosine: float | None = None
    """For int8, the smallest cosine of a row to the computed vector."""
    truncated: int | None = None
    """Rows whose text was cut; None in a segment of 0.1.0, which has it only in the column."""
    tokens_cut: int | None = None
    """Tokens that truncation removed; None if they were not counted."""
