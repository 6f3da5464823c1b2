"""Derive ensembles, segment by segment, from the files that their members' passes committed; without a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.segment_stream import stream_batches
from ...protocol.run_directory.tables import TOKENS_CUT, dense_vectors, read_info
from ...protocol.spec.ensemble_spec import EnsembleSpec
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import Output
from ...protocol.vectors.ensembles import combine
from ...protocol.vectors.projection import SEED
from ...protocol.wire.work import RowError
from .builder import SegmentBuilder
from .writer import commit_segment

ROWS_AT_ONCE = 1024
"""Rows of each member in memory, beside the segment being assembled."""

_COLUMNS = ("vector", "n_tokens", "truncated", "error")


def ensemble_fingerprint(one: EnsembleSpec, dim: int, members: Mapping[str, Fingerprint]) -> Fingerprint:
    """All that determines an ensemble's vectors: method, weights, projection, and its members' fingerprints."""
    digests = "".join(members[name].digest() for name in one.members)
    return Fingerprint(
        model=f"{one.method} of {', '.join(one.members)}",
        revision="",
        weights=hashlib.sha256(digests.encode()).hexdigest(),
        dtype="float32",
        max_tokens=0,
        prompt="",
        pooling=one.method,
        dim=dim,
        normalized=True,
        settings=dict(zip(one.members, one.shares, strict=True)) | ({"projection_seed": SEED} if one.project else {}),
        versions={},
    )


def derive_segment(layout: RunLayout, one: EnsembleSpec, segment: int, dim: int, fingerprint: str) -> None:
    """Commit the ensemble's segment. A row quarantined in a member is quarantined here, for the first such reason.

    `truncated` is set if any member's is; for the counts of tokens, see `token_counts`. OSError if the disk refuses,
    RunDirectoryError if a member's file is torn, ValueError if the members differ in their rows.
    """
    rows = read_info(layout.vector_segment(one.members[0], segment), VectorSegmentInfo).rows
    builder = SegmentBuilder(rows, [Output(one.vector, "dense", "ensemble")], [dim])
    paths = [layout.vector_segment(name, segment) for name in one.members]
    streams = [stream_batches(path, _columns(path), ROWS_AT_ONCE) for path in paths]
    first = 0
    for batches in zip(*streams, strict=True):
        first += _add(builder, one, first, [pa.Table.from_batches([batch]) for batch in batches])
    commit_segment(layout, segment, fingerprint, builder)


def _add(builder: SegmentBuilder, one: EnsembleSpec, first: int, tables: Sequence[pa.Table]) -> int:
    """Combine the same rows of all members. Return their number."""
    vectors = combine(one, [dense_vectors(table) for table in tables])
    errors = {
        int(row): "the members' vectors cancel each other out" for row in np.flatnonzero(np.isnan(vectors).any(axis=1))
    }
    for table in reversed(tables):
        reasons = table.column("error").to_pylist()
        errors |= {row: reason for row, reason in enumerate(reasons) if reason is not None}
    n_tokens, tokens_cut = token_counts(tables)
    found = {
        "positions": np.arange(first, first + len(vectors), dtype=np.int32),
        "vector": vectors,
        "n_tokens": n_tokens,
        "truncated": np.any([_numbers(table, "truncated") for table in tables], axis=0),
        "tokens_cut": tokens_cut,
    }
    builder.add(found, [RowError(row, reason) for row, reason in errors.items()])
    return len(vectors)


def _columns(path: Path) -> list[str]:
    """The columns to read; a file of 0.1.0 has no `tokens_cut`."""
    names: list[str] = pq.read_schema(path).names
    return [*_COLUMNS, *(name for name in names if name == TOKENS_CUT.name)]


def token_counts(tables: Sequence[pa.Table]) -> tuple[Any, Any]:
    """`n_tokens` and `tokens_cut` of each row, from the same rows of all members: those of the member that cut most, so that
    they add up to one member's text; of the longest, where none cut. Where a member did not count what it cut, -1 and the
    largest `n_tokens`."""
    tokens = np.array([_numbers(table, "n_tokens") for table in tables], np.int32)
    cut = np.array([_tokens_cut(table) for table in tables], np.int32)
    counted, most = cut.min(axis=0) >= 0, cut.max(axis=0)
    of_most = np.where((cut == most) | ~counted, tokens, 0).max(axis=0)
    return of_most, np.where(counted, most, -1).astype(np.int32)


def _tokens_cut(table: Any) -> Any:
    """A member's counts; -1 for a row that was cut without counting."""
    if TOKENS_CUT.name in table.column_names:
        return table.column(TOKENS_CUT.name).fill_null(-1).to_numpy()
    return np.where(_numbers(table, "truncated"), -1, 0)


def _numbers(table: Any, name: str) -> Any:
    column = table.column(name)
    return column.fill_null(pa.scalar(0).cast(column.type)).to_numpy()
