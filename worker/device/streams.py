"""How many forward passes of a model may overlap in one process, and how many threads each of them gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_STREAMS = 16
"""Each forward pass holds the interpreter's lock for a part of it: a micro-batch of all-MiniLM-L6-v2 takes 275 ms on one
thread, of which at most 7 ms are not computing. More streams than this would wait for the lock in half precision."""
WORKING_BYTES = 4 << 30
"""Of all streams of a worker together, by estimate."""
NUMBERS_PER_DIMENSION, ASSUMED_HIDDEN, BYTES_A_NUMBER = 16, 1_024, 4
"""For the memory of a forward pass: numbers of a token at the same time for each dimension of the hidden states (these,
queries, keys, values, and the wide layer before and after its activation); the dimensions of a model that does not say."""
KNOWN_PACKAGES = ("torch", "transformers", "sentence_transformers")
CHANGED_BY_USE = ("dynamic", "longrope")
"""Kinds of rotary positions whose frequencies depend on the texts computed before, or at the same time."""


def streams_of(threads: int, most: int) -> tuple[int, int]:
    """(streams, threads of each): as many streams as possible, but at most `most` and MOST_STREAMS, on all `threads`."""
    each = -(-threads // max(1, min(most, MOST_STREAMS)))
    return max(1, threads // each), each


def numbers_per_token(module: Any) -> int:
    """Numbers that a transformer's forward pass holds for a token at the same time, estimated."""
    config: Any = getattr(getattr(module, "model", None), "config", None)
    return NUMBERS_PER_DIMENSION * (getattr(config, "hidden_size", None) or ASSUMED_HIDDEN)


def most_streams(modules: Iterable[Any], numbers_each: int) -> int:
    """How many forward passes of these modules may overlap, if each holds so many numbers. 1 if a module may keep state of a
    pass: those of other packages than KNOWN_PACKAGES may, and some rotary positions do."""
    if any(_may_keep_state(one) for one in modules):
        return 1
    return max(1, WORKING_BYTES // max(1, BYTES_A_NUMBER * numbers_each))


def _may_keep_state(module: Any) -> bool:
    if type(module).__module__.split(".")[0] not in KNOWN_PACKAGES:
        return True
    named = getattr(module, "rope_type", "")
    kinds = list(named.values()) if isinstance(named, dict) else [named]
    return any(changed in str(kind) for kind in kinds for changed in CHANGED_BY_USE)
