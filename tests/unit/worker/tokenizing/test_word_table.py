"""The table against a dictionary, with good and with useless hashes."""

from __future__ import annotations

import numpy as np
import pytest
from embedfleet.worker.tokenizing.word_table import ABSENT, WordTable
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.lists(st.tuples(st.integers(1, 40) | st.integers(1, 2**64 - 1), st.integers(0, 3)), max_size=60)


def columns(keys: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([low for low, _ in keys], np.uint64), np.array([high for _, high in keys], np.uint64)


@given(st.lists(KEYS, max_size=5), KEYS, st.sampled_from([None, 0, 1, 1 << 63]))
def test_it_finds_what_was_entered(
    batches: list[list[tuple[int, int]]], absent: list[tuple[int, int]], multiplier: int | None
) -> None:
    table, known = WordTable(), dict[tuple[int, int], int]()
    if multiplier is not None:  # with 0, all keys fall into one slot
        table._multipliers = [np.uint64(multiplier)] * 2
    for batch in batches:
        new = [key for key in batch if key not in known]
        slots, distinct = table.enter(*columns(new))
        assert sorted(new[at] for at in distinct.tolist()) == sorted(set(new))
        values = np.arange(len(known), len(known) + len(distinct))
        known.update(zip((new[at] for at in distinct.tolist()), values.tolist(), strict=True))
        table.fill(slots[distinct], values)
        assert table.values(slots).tolist() == [known[key] for key in new]
        assert table.count == len(known)
    asked = [*known, *absent, (0, 0), *known]
    assert table.find(*columns(asked)).tolist() == [known.get(key, ABSENT) for key in asked]


@pytest.mark.parametrize("count", [40_000, 200_000])
def test_it_grows(count: int) -> None:
    table, before = WordTable(), WordTable().n_bytes
    for start in range(0, count, 10_000):
        low = np.arange(start + 1, start + 10_001, dtype=np.uint64)
        slots, distinct = table.enter(low, low >> np.uint64(3))
        table.fill(slots[distinct], low[distinct].view(np.int64))
    low = np.arange(1, count + 1, dtype=np.uint64)
    assert (table.find(low, low >> np.uint64(3)) == low.view(np.int64)).all()
    assert table.count == count
    assert table.n_bytes > before
