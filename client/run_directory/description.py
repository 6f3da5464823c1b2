"""The JSON of `embedfleet info --json`. Sizes are in bytes."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class ChunksDescription(TypedDict):
    """The chunk segments, and counts of the records that became no chunk."""

    rows: int
    segments: int
    rejected: int
    duplicates: int
    notes: dict[str, int]
    intake_done: bool
    bytes: int


class VectorDescription(TypedDict):
    """One vector. None for a field that is not known or does not apply to its kind."""

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
    """This field and the next are present for `--store int8`."""
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
    """The process that writes to the directory (`Running`); None if there is none."""
    spec: dict[str, Any]
    """`spec.json`."""
    chunks: ChunksDescription
    vectors: list[VectorDescription]
    index: IndexDescription
