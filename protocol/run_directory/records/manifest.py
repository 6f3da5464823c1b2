"""`manifest.json`: the counts of a finished run. Written last: without it, the run is not done."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from ...spec.run_spec import RunSpec
from ..atomic_files import commit_bytes
from ..json_bytes import read_json
from ..layout import RunLayout
from ..segment_info import TokenVectors
from ..truncation import Truncation
from .passes import PassRecord
from .sections import CrossEncoderRerankRun, SparseInferenceRun


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`chunks` counts the records read, without skipped duplicates.

    `chunks` = `committed` + `quarantined` when the run is done; before, the rest is not computed yet.
    """

    chunks: int
    committed: int
    quarantined: int
    rejected: int
    """Records that never became a row; part of `quarantined`."""
    skipped_duplicates: int
    notes: dict[str, int] = {}
    """Records for each note of the intake (`protocol/source/intake_notes.py`)."""


class ManifestPass(PassRecord, frozen=True, kw_only=True):
    """One vector: the record of its pass, and the sums of its segments."""

    rows: int
    quarantined: int
    tokens: int | UnsetType = UNSET
    stood_in: int | UnsetType = UNSET
    """For a sparse vector: rows with metadata weights."""
    float16_segments: int | UnsetType = UNSET
    """For `--store int8`: segments stored as float16."""
    worst_cosine: float | UnsetType | None = UNSET
    """For `--store int8`: the smallest cosine of a stored vector to the computed one."""
    truncated: int | UnsetType = UNSET
    """Texts that were cut. This and the next three are for kinds with a limit of tokens; 0.1.0 did not write them."""
    truncated_share: float | UnsetType = UNSET
    tokens_cut: int | UnsetType | None = UNSET
    tokens_cut_share: float | UnsetType | None = UNSET
    token_vectors: TokenVectors | UnsetType = UNSET
    """For a multivector."""

    @property
    def truncation(self) -> Truncation | None:
        """The truncation of the texts; None for a vector without a limit of tokens."""
        if self.truncated is UNSET or self.tokens_cut is UNSET:
            return None
        return Truncation(self.rows, self.truncated, self.tokens or 0, self.tokens_cut)


class IndexCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded collection: the value of `--index`, and the number of points."""

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
    """Set if candidates were reranked."""
    spec_digest: str | UnsetType = UNSET
    """`digest_spec` of the run's spec; earlier versions did not write it."""

    @property
    def done(self) -> bool:
        return self.status == "done"

    def to_json(self) -> dict[str, Any]:
        """The content of the file as JSON values."""
        return orjson.loads(_encoded(self))


def read_manifest(layout: RunLayout) -> Manifest | None:
    """The manifest; None if the run is not done. RunDirectoryError if the file is damaged."""
    return read_json(layout.manifest, Manifest)


def digest_spec(spec: RunSpec) -> str:
    """A digest of a spec without its source, whose path changes when a project is moved."""
    content = msgspec.json.encode(msgspec.structs.replace(spec, source=""))
    return hashlib.blake2b(content, digest_size=8).hexdigest()


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
