"""What `embedfleet info --json` prints. Sizes are in bytes."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class ChunksDescription(TypedDict):
    """The chunk segments, and what the intake made of the other records."""

    rows: int
    segments: int
    rejected: int
    duplicates: int
    notes: dict[str, int]
    intake_done: bool
    bytes: int


class VectorDescription(TypedDict):
    """One vector. What is not known, or not a thing of its kind, is None."""

    vector: str
    kind: str
    model: str
    form: str
    dim: int | None
    storage: str | None
    dtype: str
    rows: int
    quarantined: int
    stood_in: int
    tokens: int
    max_tokens: int | None
    truncated: int | None
    truncated_share: float | None
    tokens_cut: int | None
    tokens_cut_share: float | None
    segments: int
    bytes: int
    fingerprint: str | None
    settings: dict[str, float]
    float16_segments: NotRequired[int]
    """This and the next: of `--store int8`."""
    worst_cosine: NotRequired[float | None]


class IndexDescription(TypedDict):
    """The embedded collection."""

    kind: str
    published_segments: int
    bytes: int


class RunDescription(TypedDict):
    """A run directory."""

    root: str
    status: str
    running: dict[str, Any] | None
    """The process at work (`Running`)."""
    spec: dict[str, Any]
    """`spec.json`."""
    chunks: ChunksDescription
    vectors: list[VectorDescription]
    index: IndexDescription
