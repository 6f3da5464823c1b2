"""IdIndex: new, duplicate or conflict."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.intake.id_index import Admission, IdIndex, text_digest

A, B = text_digest(b"a"), text_digest(b"b")


def test_all_new_is_none_and_later_batches_know_them(tmp_path: Path) -> None:
    index = IdIndex(tmp_path / "ids")
    assert index.admit(["x", "y"], [A, B], 0) is None
    assert index.admit([], [], 2) is None
    assert index.admit(["y", "z", "x"], [B, A, B], 2) == Admission(new=[1], duplicates=[0], conflicts=[(2, 0)])
    # z was numbered 2: without gaps, although it stood second in its batch.
    assert index.admit(["z"], [B], 3) == Admission([], [], [(0, 2)])
    index.close()


def test_duplicates_inside_a_batch_refer_to_the_first(tmp_path: Path) -> None:
    index = IdIndex(tmp_path / "ids")
    ids = ["old", "q", "q", "p", "p", "o", "q"]
    assert index.admit(["old"], [A], 0) is None
    assert index.admit(ids, [A, A, B, A, A, B, A], 1) == Admission(
        new=[1, 3, 5], duplicates=[0, 4, 6], conflicts=[(2, 1)]
    )
    assert index.admit(["q", "p", "o"], [B, B, A], 4) == Admission([], [], [(0, 1), (1, 2), (2, 3)])
    index.close()


@pytest.mark.parametrize(("one", "other"), [("a", "A"), ("a", "a "), ("a", "a\x00"), ("é", "e\u0301"), ("1", "01")])
def test_ids_are_compared_to_the_byte(tmp_path: Path, one: str, other: str) -> None:
    index = IdIndex(tmp_path / "ids")
    assert index.admit([one, other], [A, B], 0) is None
    assert index.admit([other], [B], 2) == Admission([], [0], [])
    index.close()


def test_it_starts_empty_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_bytes(b"left by a crash, and not a database")
    index = IdIndex(path)
    assert index.admit(["x"], [A], 0) is None
    index.close()
    assert list(tmp_path.iterdir()) == []


def test_many_batches_against_a_dict(tmp_path: Path) -> None:
    index = IdIndex(tmp_path / "ids")
    known: dict[str, tuple[bytes, int]] = {}
    row = 0
    for batch in range(40):
        ids = [f"id-{(batch * 97 + n * n * 31) % 4001}" for n in range(100)]
        digests = [(A, B)[(batch + n) % 2] for n in range(100)]
        new: list[int] = []
        same: list[int] = []
        other: list[tuple[int, int]] = []
        first = row
        for position, (id_, digest) in enumerate(zip(ids, digests, strict=True)):
            if id_ not in known:
                known[id_] = (digest, row)
                new.append(position)
                row += 1
            elif known[id_][0] == digest:
                same.append(position)
            else:
                other.append((position, known[id_][1]))
        expected = Admission(new, same, other) if same or other else None
        assert index.admit(ids, digests, first) == expected
    index.close()
