"""A chunk segment is renamed, or people hear why it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.runs.damaged_chunks import set_chunks_aside
from embedfleet.protocol.run_directory.layout import damaged_of


def test_it_is_renamed_once(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(b"torn")
    told = set_chunks_aside(path, "torn")
    assert "set aside" in told
    assert damaged_of(path).read_bytes() == b"torn"
    assert set_chunks_aside(path, "torn") == told


def test_a_disk_that_does_not_rename_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _aside: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    told = set_chunks_aside(tmp_path / "00000.parquet", "a byte has changed")
    assert "cannot be set aside (Read-only file system)" in told
