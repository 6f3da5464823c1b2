"""A chunk segment is renamed, or people hear why it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.runs.damaged_chunks import set_chunks_aside
from embedfleet.protocol.run_directory.layout import RunLayout


def test_it_is_moved_once(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.chunks.mkdir()
    layout.chunk_segment(7).write_bytes(b"torn")
    told = set_chunks_aside(layout, 7, "torn")
    assert "is set aside as intake/00007.parquet.damaged; run the same command again" in told
    assert layout.damaged_chunk_segment(7).read_bytes() == b"torn"
    assert list(layout.chunks.iterdir()) == []
    assert set_chunks_aside(layout, 7, "torn") == told
    assert "is gone; run the same command again" in set_chunks_aside(layout, 8, "torn")


def test_a_disk_that_does_not_rename_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _aside: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    told = set_chunks_aside(RunLayout(tmp_path), 0, "a byte has changed")
    assert "cannot be set aside (Read-only file system)" in told
