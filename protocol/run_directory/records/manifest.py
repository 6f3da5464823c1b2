"""`manifest.json`: the counts of a run that is done. Written last; while it is missing, the run is not done."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from ..atomic_files import commit_bytes
from ..json_bytes import read_json
from ..layout import RunLayout
from ..segment_info import TokenVectors
from ..truncation import Truncation
from .passes import PassRecord
from .sections import CrossEncoderRerankRun, SparseInferenceRun


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`chunks` counts the records read and not skipped as duplicates.

    `chunks` = `committed` + `quarantined` when the run is done; until then the rest is still to be computed.
    """

    chunks: int
    committed: int
    quarantined: int
    rejected: int
    """Of the quarantined: records that never became a row."""
    skipped_duplicates: int
    notes: dict[str, int] = {}
    """Records by what the intake did to them (`protocol/source/intake_notes.py`)."""


class ManifestPass(PassRecord, frozen=True, kw_only=True):
    """One vector: its `pass.json`, and what its segments add up to."""

    rows: int
    quarantined: int
    tokens: int | UnsetType = UNSET
    stood_in: int | UnsetType = UNSET
    """Of a sparse vector: rows whose weights are those of the metadata."""
    float16_segments: int | UnsetType = UNSET
    """Of `--store int8`: segments that are stored as float16."""
    worst_cosine: float | UnsetType | None = UNSET
    """Of `--store int8`: the least cosine of a stored vector to the computed one."""
    truncated: int | UnsetType = UNSET
    """Texts that were cut. This and the next three: of kinds that have a limit of tokens, and not of 0.1.0."""
    truncated_share: float | UnsetType = UNSET
    tokens_cut: int | UnsetType | None = UNSET
    tokens_cut_share: float | UnsetType | None = UNSET
    token_vectors: TokenVectors | UnsetType = UNSET
    """Of a multivector."""

    @property
    def truncation(self) -> Truncation | None:
        """None for a vector that takes texts of any length."""
        if self.truncated is UNSET or self.tokens_cut is UNSET:
            return None
        return Truncation(self.rows, self.truncated, self.tokens or 0, self.tokens_cut)


class IndexCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded collection: `--index`, and how many points it holds."""

    kind: str
    points: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`."""

    format: int | UnsetType = UNSET
    embedfleet: str | UnsetType = UNSET
    """The version that wrote it."""
    run: str | UnsetType = UNSET
    status: str
    source: str | UnsetType = UNSET
    counts: Counts
    passes: tuple[ManifestPass, ...]
    """In the order of the spec's outputs."""
    index: IndexCounts | UnsetType = UNSET
    sparse_run: tuple[SparseInferenceRun, ...] | UnsetType = UNSET
    """One for each sparse vector."""
    rerank_run: CrossEncoderRerankRun | UnsetType = UNSET
    """Where candidates were reranked."""

    @property
    def done(self) -> bool:
        return self.status == "done"

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        return orjson.loads(_encoded(self))


def read_manifest(layout: RunLayout) -> Manifest | None:
    """The manifest; None as long as the run is not done. RunDirectoryError where the file is damaged."""
    return read_json(layout.manifest, Manifest)


def commit_manifest(layout: RunLayout, manifest: Manifest) -> None:
    """Write the manifest."""
    commit_bytes(layout.manifest, _encoded(manifest))


def update_manifest(layout: RunLayout, manifest: Manifest, fields: Collection[str]) -> None:
    """Write these fields into the manifest that stands. What a later version has put there besides is kept."""
    before, now = orjson.loads(layout.manifest.read_bytes()), msgspec.to_builtins(manifest)
    kept = {name: value for name, value in before.items() if name not in fields or name in now}
    commit_bytes(layout.manifest, _pretty(kept | {name: now[name] for name in fields if name in now}))


def _encoded(manifest: Manifest) -> bytes:
    return _pretty(msgspec.to_builtins(manifest))


def _pretty(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
