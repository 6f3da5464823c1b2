"""The memory that is free, for this container too."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.host.free_memory import available
from ..output.formatting import human_bytes
from .finding import GB, Finding

LEAST_BYTES, GOOD_BYTES = 2 * GB, 4 * GB
"""A worker with torch and a small model takes about 1 GB; the coordinator, the exporter and the collection need the rest."""
REMEDY = (
    "end other programs, or raise the container's limit (docker run --memory, limits.memory); smaller models take less"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    free: int
    total: int


def measure_memory() -> Memory:
    """The host's, or the container's where that is less."""
    return Memory(*available())


def memory_findings(memory: Memory) -> list[Finding]:
    """Whether a worker fits."""
    text = f"{human_bytes(memory.free)} of {human_bytes(memory.total)} free"
    if memory.free < LEAST_BYTES:
        return [Finding("problem", "memory", "memory-short", f"{text}: too little for a real model", REMEDY)]
    if memory.free < GOOD_BYTES:
        return [Finding("note", "memory", "memory-low", f"{text}: enough for small models only", REMEDY)]
    return [Finding("ok", "memory", "memory", text)]
