"""What is recounted from the files of a run."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from embedfleet.exporter.run_directory.manifest import recount, write_sections
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import read_info


def test_a_row_that_lacks_two_vectors_counts_once(run_files: Any, tmp_path: Path) -> None:
    files = run_files.RunFiles(
        tmp_path / "run", sizes=(3, 4, 2), quarantined=(0, 4), sparse_quarantined=(4, 5, 8), index="none"
    ).write()
    counts, (dense, sparse) = recount(files.layout, files.spec)
    assert (counts.chunks, counts.committed, counts.quarantined, counts.rejected) == (10, 5, 5, 1)
    assert (dense.rows, dense.quarantined) == (9, 2)
    assert (sparse.rows, sparse.quarantined, sparse.stood_in) == (9, 3, 0)


def test_a_segment_that_lacks_a_vector_is_still_to_be_computed(run_files: Any, tmp_path: Path) -> None:
    files = run_files.RunFiles(tmp_path / "run", sizes=(3, 4), quarantined=(0, 4), index="none").write()
    path = files.layout.vector_segment(run_files.SPARSE, 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunDirectoryError, match="not a whole segment"):
        recount(files.layout, files.spec)
    left_out = recount(files.layout, files.spec, lenient=True)
    path.unlink()
    assert recount(files.layout, files.spec) == left_out
    counts, (dense, sparse) = left_out
    assert (counts.chunks, counts.committed, counts.quarantined) == (8, 2, 2)
    assert (dense.rows, sparse.rows) == (7, 3)


def test_memory_does_not_grow_with_the_quarantine(run_files: Any, tmp_path: Path) -> None:
    def peak(segments: int) -> int:
        rows = range(500 * segments)
        sizes = (500,) * segments
        files = run_files.RunFiles(tmp_path / str(segments), sizes=sizes, quarantined=rows, index="none").write()
        read_info(files.layout.vector_segment(run_files.DENSE, 0), VectorSegmentInfo)  # what is made once
        tracemalloc.start()
        try:
            counts, _ = recount(files.layout, files.spec)
            assert counts.quarantined == len(rows) + 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(2), peak(24)
    assert many < 2 * few


def test_what_a_later_version_has_put_into_a_manifest_stays_there(run_files: Any, tmp_path: Path) -> None:
    files = run_files.RunFiles(tmp_path / "run", sizes=(3,), index="none").write()
    content = json.loads(files.layout.manifest.read_bytes())
    content["later"], content["passes"][0]["later"] = {"a": 1}, "b"
    files.layout.manifest.write_text(json.dumps(content))
    files.layout.stats.write_text(
        '{"status": "done", "passes": [{"vector": "x", "device": null}]}'
    )  # figures refuse nothing
    write_sections(files.layout, files.spec)
    after = json.loads(files.layout.manifest.read_bytes())
    assert len(after.pop("sparse_run")) == 1
    content.pop("sparse_run", None)
    assert after == content
