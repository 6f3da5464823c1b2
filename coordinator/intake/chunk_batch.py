"""Chunks in columns, between a source file and a segment."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ChunkBatch:
    """Chunks of one source file in columns; `numbers` are their records' numbers in the file."""

    numbers: list[int] = field(default_factory=list[int])
    ids: list[str] = field(default_factory=list[str])
    texts: list[str] = field(default_factory=list[str])
    metadata: list[str | None] = field(default_factory=list["str | None"])
    n_bytes: list[int] = field(default_factory=list[int])

    def __len__(self) -> int:
        return len(self.ids)

    def extend(self, other: ChunkBatch) -> None:
        self.numbers += other.numbers
        self.ids += other.ids
        self.texts += other.texts
        self.metadata += other.metadata
        self.n_bytes += other.n_bytes

    def part(self, start: int, stop: int) -> ChunkBatch:
        at = slice(start, stop)
        return ChunkBatch(self.numbers[at], self.ids[at], self.texts[at], self.metadata[at], self.n_bytes[at])

    def only(self, positions: list[int]) -> ChunkBatch:
        """The chunks at `positions`, which must ascend."""
        chosen = ChunkBatch()
        for position in positions:
            chosen.extend(self.part(position, position + 1))
        return chosen
