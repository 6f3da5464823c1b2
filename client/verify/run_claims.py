"""What the JSON files of a run claim that can be counted again from its segments."""

from __future__ import annotations

import msgspec

from ...protocol.vectors.storage import Ranges


class IntakeClaim(msgspec.Struct, frozen=True):
    """`chunks/intake.json`."""

    segments: int
    rows: int
    rejected: int
    duplicates: int


class PassClaim(msgspec.Struct, frozen=True):
    """`pass.json`."""

    fingerprint: str
    normalized: bool = True
    output_dim: int | None = None
    ranges: Ranges | None = None
    """The int8 ranges of 0.1.0; later versions keep ranges in each segment."""


class CountsClaim(msgspec.Struct, frozen=True):
    """`counts` of the manifest."""

    chunks: int
    committed: int
    quarantined: int
    rejected: int
    skipped_duplicates: int


class VectorClaim(msgspec.Struct, frozen=True):
    """One of the manifest's `passes`."""

    vector: str
    rows: int
    quarantined: int
    truncated: int | None = None
    tokens_cut: int | None = None


class ManifestClaim(msgspec.Struct, frozen=True):
    """`manifest.json`."""

    status: str
    counts: CountsClaim
    passes: tuple[VectorClaim, ...]
    """In the order of the spec's outputs."""


class RerankClaim(msgspec.Struct, frozen=True):
    """`rerank/rerank_run.json`."""

    pairs: int
