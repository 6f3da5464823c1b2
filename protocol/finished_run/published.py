"""`published.json`: which segments the Edge shard holds and, by a digest, with which vectors.

    {"segments": {"0": "9c1e…", "1": "04ab…"}}

The digest tells a segment that was computed again from the one that was published. Files of earlier versions have bare
numbers, `{"segments": [0, 1]}`: nobody knows which vectors those were, so they are published again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from ..run_directory.json_bytes import decode_json
from ..run_directory.layout import RunLayout
from ..run_directory.segment_info import VectorSegmentInfo
from ..run_directory.tables import read_info

UNKNOWN = ""
"""The digest of a segment that an earlier version published; no vectors have it."""


class _Published(msgspec.Struct, frozen=True):
    segments: dict[int, str] | list[int]


def decode_published(raw: bytes) -> dict[int, str]:
    """The digests by segment. msgspec.MsgspecError where the file is no such thing."""
    segments = decode_json(raw, _Published).segments
    return segments if isinstance(segments, dict) else dict.fromkeys(segments, UNKNOWN)


def encode_published(segments: Mapping[int, str]) -> bytes:
    """The file's content."""
    return msgspec.json.encode(_Published(dict(sorted(segments.items()))))


def segment_digest(layout: RunLayout, names: Sequence[str], segment: int) -> str:
    """What all vectors of a segment are, in 16 hexadecimal digits: of the digests in the footers of their files.

    Those are over the vectors as they are kept, so another `--store` has another digest. RunDirectoryError where a file is
    missing or torn.
    """
    state = hashlib.blake2b(digest_size=8)
    for name in names:
        info = read_info(layout.vector_segment(name, segment), VectorSegmentInfo)
        state.update(f"{name}\0{info.digest}\n".encode())
    return state.hexdigest()


def run_digest(layout: RunLayout, names: Sequence[str], segments: Sequence[int]) -> str:
    """As `segment_digest`, of these segments together: another where a vector came, went or was computed again."""
    state = hashlib.blake2b("\0".join(names).encode(), digest_size=8)
    for segment in segments:
        state.update(segment_digest(layout, names, segment).encode())
    return state.hexdigest()
