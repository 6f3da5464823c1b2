"""Sizes of vectors before there are any, against segments that the exporter's writer wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.protocol.planning.model_figures import VectorFigures
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import with_info, write_vectors
from embedfleet.protocol.spec.run_spec import Form, Output, Storage
from embedfleet.worker.planning.vector_bytes import Entries, SampleRows, dense_size, list_size

ROWS, SEGMENT = 3_000, 1_000
IDS = [f"document-{row % 700}#{row}" for row in range(ROWS)]


def unit_vectors(dim: int) -> np.ndarray:
    vectors = np.random.default_rng(7).standard_normal((SEGMENT, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def written(output: Output, dim: int, arrays: dict[str, np.ndarray], folder: Path) -> int:
    """The bytes of all segments of ROWS rows, each with these arrays."""
    total = 0
    for segment in range(ROWS // SEGMENT):
        builder = SegmentBuilder(SEGMENT, [output], [dim])
        positions = np.arange(SEGMENT, dtype=np.int32)
        about = {"n_tokens": positions + 5, "truncated": positions % 3 == 0, "tokens_cut": positions % 7}
        builder.add({"positions": positions, **about, **arrays})
        first = segment * SEGMENT
        table = builder.table(0, pa.array(np.arange(first, first + SEGMENT)), pa.array(IDS[first : first + SEGMENT]))
        info = VectorSegmentInfo(
            vector=output.vector,
            segment=segment,
            first_row=first,
            rows=SEGMENT,
            quarantined=0,
            tokens=builder.tokens,
            fingerprint="0123456789abcdef.0123456789abcdef",
            digest="a" * 64,
            truncated=10,
            tokens_cut=20,
        )
        path = folder / f"{segment}.parquet"
        write_vectors(with_info(table, info), path)
        total += path.stat().st_size
    return total


def planned(found: VectorFigures) -> float:
    return found.row_bytes * ROWS + found.segment_bytes * (ROWS // SEGMENT)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("dim", [8, 384])
def test_dense_vectors(storage: Storage, dim: int, tmp_path: Path) -> None:
    output = Output("dense-x", "dense", "dense", storage)
    found = dense_size(SampleRows(IDS, SEGMENT), output, dim)
    assert planned(found) == pytest.approx(written(output, dim, {"vector": unit_vectors(dim)}, tmp_path), rel=0.02)
    assert (found.dim, found.basis, found.storage) == (dim, "counted", storage)


@pytest.mark.parametrize("form", ["sparse", "multivector"])
def test_lists_of_different_lengths(form: Form, tmp_path: Path) -> None:
    counts = 1 + np.arange(SEGMENT) % 60
    offsets = np.concatenate([[0], np.cumsum(counts)])
    total, dim = int(offsets[-1]), 16
    arrays = {
        "sparse": {"indices": np.arange(total, dtype=np.uint32), "values": np.ones(total, np.float32)},
        "multivector": {"tokens": np.ones((total, dim), np.float16)},
    }[form]
    output = Output(f"{form}-x", form, form)
    entries = Entries(np.tile(counts, ROWS // SEGMENT), "sampled")
    found = list_size(SampleRows(IDS, SEGMENT), output, dim, entries)
    assert planned(found) == pytest.approx(written(output, dim, {"offsets": offsets, **arrays}, tmp_path), rel=0.02)
    assert found.basis == "sampled"


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_sample_of_few_rows(rows: int) -> None:
    found = dense_size(SampleRows(IDS[:rows], 1), Output("dense-x", "dense", "dense"), 8)
    assert found.row_bytes > 0


def test_lists_whose_lengths_alternate_or_grow(tmp_path: Path) -> None:
    output = Output("sparse-x", "sparse", "sparse")
    for number, counts in enumerate((np.tile([2, 90], SEGMENT // 2), 1 + np.arange(SEGMENT) // 10)):
        total, folder = int(counts.sum()), tmp_path / str(number)
        folder.mkdir()
        offsets = np.concatenate([[0], np.cumsum(counts)])
        arrays = {
            "offsets": offsets,
            "indices": np.arange(total, dtype=np.uint32),
            "values": np.ones(total, np.float32),
        }
        found = list_size(SampleRows(IDS, SEGMENT), output, 0, Entries(np.tile(counts, ROWS // SEGMENT), "sampled"))
        assert planned(found) == pytest.approx(written(output, 0, arrays, folder), rel=0.02)
