"""A chunk segment that cannot be read: damaged, or only not to be had at the moment."""

from __future__ import annotations

import errno

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.protocol.errors import DamagedChunks, RunDirectoryError, is_host_failure
from embedfleet.protocol.run_directory.chunk_columns import read_chunk_columns


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(tmp_path / "run").write()


def test_columns_of_a_whole_segment(files):
    assert read_chunk_columns(files.layout, 1, ("row", "id")).to_pydict() == {"row": [3, 4], "id": ["c3", "c4"]}


def test_damage_names_the_segment(files):
    path = files.layout.chunk_segment(1)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DamagedChunks, match=r"00001\.parquet") as damaged:
        read_chunk_columns(files.layout, 1, ("id",))
    assert damaged.value.segment == 1
    assert damaged.value.reason


@pytest.mark.parametrize("trouble", [OSError(errno.ESTALE, "Stale file handle"), pa.ArrowMemoryError("no memory")])
def test_what_the_host_does_not_give_is_no_damage(files, monkeypatch, trouble):
    def refuse(*_, **__):
        raise trouble

    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(RunDirectoryError, match="cannot be read") as refused:
        read_chunk_columns(files.layout, 1, ("id",))
    assert not isinstance(refused.value, DamagedChunks)


def test_the_hosts_trouble_is_found_behind_other_errors():
    behind = RunDirectoryError("torn")
    behind.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert is_host_failure(behind)
    assert not is_host_failure(OSError("could not verify page integrity"))
    assert not is_host_failure(FileNotFoundError(errno.ENOENT, "no such file"))
    assert not is_host_failure(None)
