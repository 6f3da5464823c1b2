"""The metadata fallback of sparse passes: whether chunks have weights in their metadata, and how that is reported."""

from __future__ import annotations

import orjson

from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ...protocol.vectors.metadata_terms import METADATA_WEIGHTS, metadata_weights
from ..intake.loader import SpooledSegment


def asks_for_weights(one: PassSpec) -> bool:
    """Whether the pass may use weights of the chunks' metadata. Queries have none: their own words are the fallback."""
    return one.side == "document" and (one.kind == "metadata" or (one.kind == "sparse" and one.fallback))


def has_metadata_weights(layout: RunLayout, spooled: SpooledSegment) -> bool:
    """Whether any chunk of the segment has them. Only a segment of an earlier session is read from disk."""
    stored = spooled.metadata
    if stored is None:
        stored = read_chunk_columns(layout, spooled.segment, ("metadata",)).column("metadata").to_pylist()
    return any(metadata_weights(orjson.loads(one)) is not None for one in stored if one is not None)


def source_of_weights(live: int, stood_in: int, without: int) -> str:
    """How many rows have the model's weights, how many their metadata's, and how many none, in words."""
    parts = [(live, "by the model"), (stood_in, "from metadata"), (without, "without")]
    return ", ".join(f"{rows:,} {what}" for rows, what in parts if rows)


def without_model(one: PassSpec) -> Fingerprint:
    """The fingerprint of a pass whose rows all have the weights of their metadata."""
    return Fingerprint(
        model=one.model,
        revision="",
        weights="",
        dtype="float32",
        max_tokens=0,
        prompt="",
        query_prompt="",
        pooling=METADATA_WEIGHTS,
        dim=0,
        normalized=False,
        versions={},
    )
