"""An even sample of chunks that does not depend on how the source is divided."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

import msgspec
import xxhash

from ...protocol.run_directory.records.fit import SAMPLE_CHUNKS, SampledChunk


class Sample:
    """The SAMPLE_CHUNKS chunks whose ids have the smallest hashes."""

    def __init__(self, most: int = SAMPLE_CHUNKS) -> None:
        self._most = most
        self._heap: list[tuple[int, str, str]] = []
        """Negative hashes, so that the largest hash is the first."""

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        """Consider these chunks."""
        for id_, text in zip(ids, texts, strict=True):
            found = (-xxhash.xxh3_64_intdigest(id_.encode()), id_, text)
            if len(self._heap) < self._most:
                heapq.heappush(self._heap, found)
            elif found > self._heap[0]:
                heapq.heapreplace(self._heap, found)

    def write(self, path: Path) -> None:
        """Write them as JSON lines of SampledChunk, the smallest hash first."""
        encoder = msgspec.json.Encoder()
        with path.open("wb") as file:
            for negative, id_, text in sorted(self._heap, reverse=True):
                file.write(encoder.encode(SampledChunk(-negative, id_, text)) + b"\n")
