"""Whether chunks carry sparse weights of their own, which may stand in for a model's."""

from __future__ import annotations

import orjson

from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ...protocol.vectors.metadata_terms import METADATA_WEIGHTS, metadata_weights
from ..intake.loader import SpooledSegment


def asks_for_stand_ins(one: PassSpec) -> bool:
    """Whether it matters to the pass. For queries it does not: their own words stand in."""
    return one.side == "document" and (one.kind == "metadata" or (one.kind == "sparse" and one.fallback))


def has_metadata_weights(layout: RunLayout, spooled: SpooledSegment) -> bool:
    """Whether any chunk of the segment has them. A segment of an earlier session is read; one that was just written is not."""
    stored = spooled.metadata
    if stored is None:
        stored = read_chunk_columns(layout, spooled.segment, ("metadata",)).column("metadata").to_pylist()
    return any(metadata_weights(orjson.loads(one)) is not None for one in stored if one is not None)


def source_of_weights(live: int, stood_in: int, without: int) -> str:
    """Where the rows' weights are from, in words."""
    parts = [(live, "by the model"), (stood_in, "from metadata"), (without, "without")]
    return ", ".join(f"{rows:,} {what}" for rows, what in parts if rows)


def without_model(one: PassSpec) -> Fingerprint:
    """The fingerprint of a pass that no model computes: every row has the weights of its metadata."""
    return Fingerprint(
        model=one.model,
        revision="",
        weights="",
        dtype="float32",
        max_tokens=0,
        prompt="",
        pooling=METADATA_WEIGHTS,
        dim=0,
        normalized=False,
        versions={},
    )
