"""The table of ids against a dictionary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.exporter.merging import id_table
from embedfleet.exporter.merging.id_table import IdTable
from hypothesis import given
from hypothesis import strategies as st


def repeated(folder: Path, ids: list[str], parts: int, size: int) -> list[tuple[int, int]]:
    """(First place, later place) of each id that stands again, in order of the later one."""
    with IdTable(folder, parts * id_table.PART_BYTES // id_table.ENTRY.itemsize) as table:
        for start in range(0, len(ids), size):
            table.add(pa.array(ids[start : start + size]), start)
        found = list(table.repeated())
    pairs = [pair for heads, later in found for pair in zip(heads.tolist(), later.tolist(), strict=True)]
    return sorted(pairs, key=lambda pair: pair[1])


def by_dictionary(ids: list[str]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [(first[one], place) for place, one in enumerate(ids) if first.setdefault(one, place) != place]


@given(
    ids=st.lists(st.text(max_size=3), max_size=60),
    parts=st.sampled_from([1, 2, 5, 64]),
    size=st.integers(1, 20),
)
def test_it_finds_what_a_dictionary_finds(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], parts: int, size: int
) -> None:
    assert repeated(tmp_path_factory.getbasetemp(), ids, parts, size) == by_dictionary(ids)


def test_digests_that_agree_in_their_first_half_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Digest:
        def __init__(self, data: bytes, digest_size: int) -> None:
            self._data, self._size = data, digest_size

        def digest(self) -> bytes:
            return b"0" * (self._size - len(self._data)) + self._data

    monkeypatch.setattr(id_table.hashlib, "blake2b", Digest)
    ids = ["a", "b", "a", "c", "b", "a"]
    assert repeated(tmp_path, ids, 1, 2) == by_dictionary(ids)


def test_it_leaves_no_file(tmp_path: Path) -> None:
    with IdTable(tmp_path, 10_000_000) as table:
        table.add(pa.array([f"id {at}" for at in np.arange(100)]), 0)
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
