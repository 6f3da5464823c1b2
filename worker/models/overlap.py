"""How many forward passes of a model may overlap in one process, and how many threads each of them gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_STREAMS = 16
"""Each forward pass holds the interpreter's lock for a part of it: a micro-batch of all-MiniLM-L6-v2 takes 275 ms on one
thread, of which at most 7 ms are not computing. More streams than this would wait for the lock in half precision."""
WORKING_BYTES = 4 << 30
"""Of all streams of a worker together, by estimate."""
KNOWN_PACKAGES = ("torch", "transformers", "sentence_transformers")
CHANGED_BY_USE = ("dynamic", "longrope")
"""Kinds of rotary positions whose frequencies depend on the texts computed before, or at the same time."""


def streams_of(threads: int, most: int) -> tuple[int, int]:
    """(streams, threads of each): as many streams as possible, but at most `most` and MOST_STREAMS, on all `threads`."""
    each = -(-threads // max(1, min(most, MOST_STREAMS)))
    return max(1, threads // each), each


def most_streams(modules: Iterable[Any], bytes_each: int) -> int:
    """How many forward passes of these modules may overlap. 1 if a module may keep state of a pass: those of other packages
    than KNOWN_PACKAGES may, and some rotary positions do."""
    if any(_may_keep_state(one) for one in modules):
        return 1
    return max(1, WORKING_BYTES // max(1, bytes_each))


def _may_keep_state(module: Any) -> bool:
    if type(module).__module__.split(".")[0] not in KNOWN_PACKAGES:
        return True
    named = getattr(module, "rope_type", "")
    kinds = list(named.values()) if isinstance(named, dict) else [named]
    return any(changed in str(kind) for kind in kinds for changed in CHANGED_BY_USE)
