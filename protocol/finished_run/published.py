"""`published.json`: the segments in the Edge shard, each with a digest of its vectors.

    {"segments": {"0": "9c1e…", "1": "04ab…"}}

The digest shows whether a segment was computed again after it was published. Files of earlier versions have numbers only,
`{"segments": [0, 1]}`: these segments are published again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from ..run_directory.json_bytes import decode_json
from ..run_directory.layout import RunLayout
from ..run_directory.segment_info import VectorSegmentInfo

UNKNOWN = ""
"""Stands for the digest of a segment that an earlier version published; equal to no digest."""


class _Published(msgspec.Struct, frozen=True):
    segments: dict[int, str] | list[int]


def decode_published(raw: bytes) -> dict[int, str]:
    """The digests by segment. msgspec.MsgspecError if the file is damaged."""
    segments = decode_json(raw, _Published).segments
    return segments if isinstance(segments, dict) else dict.fromkeys(segments, UNKNOWN)


def encode_published(segments: Mapping[int, str]) -> bytes:
    """The file's content."""
    return msgspec.json.encode(_Published(dict(sorted(segments.items()))))


def segment_digest(layout: RunLayout, names: Sequence[str], segment: int) -> str:
    """A digest of all vectors of a segment, 16 hexadecimal digits, from the digests in the footers of their files.

    These are over the stored vectors, so it depends on `--store`. RunDirectoryError if a file is missing or torn.
    """
    from ..run_directory.tables import read_info  # late: it imports Arrow, and a search needs no digest

    state = hashlib.blake2b(digest_size=8)
    for name in names:
        info = read_info(layout.vector_segment(name, segment), VectorSegmentInfo)
        state.update(f"{name}\0{info.digest}\n".encode())
    return state.hexdigest()


def run_digest(layout: RunLayout, names: Sequence[str], segments: Sequence[int]) -> str:
    """A digest of all vectors of these segments. It changes with any vector that is added, removed or computed again."""
    state = hashlib.blake2b("\0".join(names).encode(), digest_size=8)
    for segment in segments:
        state.update(segment_digest(layout, names, segment).encode())
    return state.hexdigest()
