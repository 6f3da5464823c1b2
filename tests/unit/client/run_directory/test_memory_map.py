"""`Run.memmap` and `Run.batches`: the vectors of a run that does not fit in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.client.run_directory.reader import open_run
from embedfleet.protocol.errors import RunDirectoryError, UsageError
from embedfleet.protocol.run_directory.removal import clear_run


@pytest.fixture
def files(run_files: Any, tmp_path: Path) -> Any:
    return run_files.RunFiles(
        tmp_path / "run", sizes=(3, 2, 4), quarantined=(4,), storage="int8", multivector=True
    ).write()


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 0.0), ("float16", 1e-3)])
def test_a_map_has_the_numbers_of_the_vectors(files: Any, dtype: Any, rounding: float) -> None:
    run = open_run(files.root)
    mapped, expected = run.memmap(dtype=dtype), run.vectors()
    assert isinstance(mapped, np.memmap)
    assert (mapped.dtype, mapped.shape) == (np.dtype(dtype), (9, 4))
    np.testing.assert_allclose(mapped, expected, rtol=0, atol=rounding)
    assert np.isnan(mapped[4]).all()
    with pytest.raises(ValueError, match="read-only"):
        mapped[0, 0] = 1


def test_it_is_made_once_and_again_for_other_vectors(files: Any, run_files: Any) -> None:
    run = open_run(files.root)
    run.memmap(run_files.DENSE)
    (made,) = files.layout.cache.iterdir()
    inode = made.stat().st_ino
    open_run(files.root).memmap(run_files.DENSE)
    assert made.stat().st_ino == inode
    files.vector_segment(run_files.DENSE, 1, files.dense_table(1), digest="0" * 64)
    open_run(files.root).memmap(run_files.DENSE)
    (other,) = files.layout.cache.iterdir()
    assert other.name != made.name
    other.write_bytes(other.read_bytes()[:-4])
    assert len(open_run(files.root).memmap(run_files.DENSE)) == 9, "a torn copy is made again"


def test_another_folder_takes_the_copy(files: Any, tmp_path: Path) -> None:
    open_run(files.root).memmap(folder=tmp_path / "there")
    assert not files.layout.cache.exists()
    assert len(list((tmp_path / "there").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match=r'name a folder that can be written: memmap\(.*folder="…"\)'):
        open_run(files.root).memmap(folder=tmp_path / "file")


def test_nothing_is_written_through_a_link(files: Any, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    files.layout.cache.symlink_to(tmp_path / "there")
    with pytest.raises(RunDirectoryError, match="cache is a symbolic link"):
        open_run(files.root).memmap()
    assert list((tmp_path / "there").iterdir()) == []


def test_a_restart_removes_the_copies_and_no_other_file(files: Any) -> None:
    open_run(files.root).memmap()
    clear_run(files.layout, files.spec)
    assert not files.layout.cache.exists()
    files.layout.cache.mkdir()
    (files.layout.cache / "mine.npy").write_text("mine")
    clear_run(files.layout, files.spec)
    assert [path.name for path in files.layout.cache.iterdir()] == ["mine.npy"]


def test_what_cannot_be_mapped(files: Any, run_files: Any) -> None:
    run = open_run(files.root)
    with pytest.raises(UsageError, match="sparse-bm25 is sparse, and only dense vectors can be mapped"):
        run.memmap(run_files.SPARSE)
    with pytest.raises(UsageError, match="dtype='int8': give one of float32, float16"):
        run.memmap(dtype="int8")  # pyright: ignore[reportArgumentType] - what is tested
    files.layout.vector_segment(run_files.DENSE, 2).unlink()
    with pytest.raises(RunDirectoryError, match="dense-fake lacks segments 2 of 3"):
        run.memmap()
    assert not files.layout.cache.exists()


@pytest.mark.parametrize("rows", [1, 2, 1024])
def test_batches_have_all_columns_of_each_row(files: Any, run_files: Any, rows: int) -> None:
    run = open_run(files.root)
    batches = list(run.batches(rows=rows))
    assert max(len(batch) for batch in batches) == min(rows, 4)
    found = pa.Table.from_batches(batches)
    assert found.column("id").to_pylist() == run.ids
    expected = [
        None if row == 4 else vector.tolist() for row, vector in enumerate(np.asarray(run.vectors(run_files.DENSE)))
    ]
    assert found.column(run_files.DENSE).to_pylist() == expected
    assert found.column(run_files.MULTI).to_pylist() == [
        None if row == 4 else run_files.multi_of(row).tolist() for row in range(9)
    ]
    assert found.column("sparse-bm25.indices").to_pylist() == [run_files.sparse_of(row)[0] for row in range(9)]


def test_batches_have_the_columns_that_are_named(files: Any, run_files: Any) -> None:
    run = open_run(files.root)
    assert [batch.schema.names for batch in run.batches(run_files.DENSE, "id")] == [["id", run_files.DENSE]] * 3
    assert sum(len(batch) for batch in run.batches("text")) == 9
    with pytest.raises(UsageError, match="there is no vector 'nope'"):
        run.batches("id", "nope")
    with pytest.raises(UsageError, match="rows=0: give 1 or more"):
        run.batches(rows=0)


def test_files_that_do_not_fit_together_are_named(files: Any, run_files: Any) -> None:
    files.vector_segment(run_files.DENSE, 1, files.dense_table(2))
    with pytest.raises(
        RunDirectoryError, match=r"the files of segment 1 do not fit together .*; `embedfleet verify` says which"
    ):
        list(open_run(files.root).batches())
