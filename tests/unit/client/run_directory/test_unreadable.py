"""A file that cannot be read now is not called damaged, and nobody is told to delete it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from embedfleet.client.run_directory.edge_shard import published_digests
from embedfleet.client.run_directory.files import count_lines, read_lines, read_table
from embedfleet.client.run_directory.sparse_vectors import _most_values  # pyright: ignore[reportPrivateUsage]
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.passes import read_pass
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.segment_stream import stream_batches
from embedfleet.protocol.run_directory.tables import read_info
from embedfleet.protocol.run_directory.vector_rows import read_shape

READERS: dict[str, Callable[[Path], object]] = {
    "footer": lambda root: read_info(root / "vectors/v/00000.parquet", VectorSegmentInfo),
    "shape": lambda root: read_shape(root / "vectors/v/00000.parquet"),
    "rows": lambda root: list(stream_batches(root / "vectors/v/00000.parquet", ("row",))),
    "table": lambda root: read_table(root / "vectors/v/00000.parquet"),
    "counts of a sparse vector": lambda root: _most_values(root / "vectors/v/00000.parquet"),
    "lines": lambda root: read_lines(root / "quarantine.jsonl"),
    "count of lines": lambda root: count_lines(root / "quarantine.jsonl"),
    "record of a pass": lambda root: read_pass(RunLayout(root), "v"),
    "published.json": lambda root: published_digests(RunLayout(root)),
}


@pytest.fixture
def loops(tmp_path: Path) -> Path:
    """A run whose files cannot be opened, by whatever user: each is a link to itself."""
    for name in ("vectors/v/00000.parquet", "passes/v.json", "quarantine.jsonl", "published.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(path)
    (tmp_path / "qdrant").mkdir()
    (tmp_path / "qdrant" / "edge_config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("reader", READERS)
def test_what_cannot_be_opened_is_not_called_damaged(loops: Path, reader: str) -> None:
    with pytest.raises(RunDirectoryError) as caught:
        READERS[reader](loops)
    assert "cannot be read" in str(caught.value)
    assert "delete" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ELOOP
