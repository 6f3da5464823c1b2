"""How many texts were cut, added up from segments, the old ones too; and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet.client.output.truncation_lines import advice, cut_cell, percent
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.run_directory.manifest import recount, truncations
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.exporter.segments.writer import commit_segment
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import INFO_KEY, TOKENS_CUT, digest, read_info, with_info
from embedfleet.protocol.run_directory.truncation import Truncation, segment_truncation, sum_truncations
from msgspec import structs

from .... import run_files

NAME = run_files.DENSE
DIM, ROWS, CUT = 4, 5, [0, 30, 0, 7, 0]


def results(counted: bool, rows: int = ROWS) -> dict[str, Any]:
    vectors = np.zeros((rows, DIM), np.float32)
    vectors[:, 0] = 1
    cut = np.array(CUT[:rows], np.int32)
    found = {"positions": np.arange(rows, dtype=np.int32), "vector": vectors, "n_tokens": np.full(rows, 10, np.int32)}
    return found | {"truncated": (cut > 0).astype(np.uint8)} | ({"tokens_cut": cut} if counted else {})


def committed(folder: Path, counted: bool) -> Any:
    """A run of one segment, whose worker counts the tokens that it cuts, or does not."""
    files = run_files.RunFiles(folder, sizes=(ROWS,), index="none")
    files.write()
    output = next(one for one in files.spec.outputs if one.vector == NAME)
    builder = SegmentBuilder(ROWS, [output], [DIM])
    builder.add(results(counted))
    path = files.layout.vector_segment(NAME, 0)
    before = read_info(path, VectorSegmentInfo)
    path.unlink()
    commit_segment(files.layout, 0, before.fingerprint, builder)
    return files


def as_before(path: Path) -> None:
    """The segment as 0.1.0 wrote it."""
    table = pq.read_table(path).drop_columns([TOKENS_CUT.name])
    info = msgspec.structs.replace(read_info(path, VectorSegmentInfo), truncated=None, tokens_cut=None)
    info = msgspec.structs.replace(info, digest=digest(table))
    pq.write_table(with_info(table.replace_schema_metadata(None), info), path, write_page_checksum=True)


@pytest.mark.parametrize(
    ("counted", "old", "cut"),
    [(True, False, 37), (False, False, None), (True, True, None)],
    ids=["new", "old worker", "0.1.0"],
)
def test_footer_column_manifest_info_and_verify_agree(
    tmp_path: Path, counted: bool, old: bool, cut: int | None
) -> None:
    files = committed(tmp_path / "run", counted)
    path = files.layout.vector_segment(NAME, 0)
    if old:
        as_before(path)
    expected = Truncation(ROWS, 2, 50, cut)
    assert segment_truncation(path, read_info(path, VectorSegmentInfo)) == expected
    _, passes = recount(files.layout, files.spec)
    named = [structs.replace(found, vector=one.vector) for one, found in zip(files.spec.outputs, passes, strict=True)]
    assert truncations(named)[NAME] == expected
    (said,) = (one for one in describe_run(files.root)["vectors"] if one["vector"] == NAME)
    assert (said["truncated"], said["tokens_cut"]) == (2, cut)
    assert said["tokens_cut_share"] == (None if cut is None else round(37 / 87, 6))
    report = verify_run(files.root)
    assert report.vectors[NAME].truncation == expected
    for name, found in report.vectors.items():  # also those that take texts of any length
        n_tokens = pq.read_table(files.layout.vector_segment(name, 0)).column("n_tokens").to_pylist()
        assert found.tokens == sum(n_tokens) > 0, name
    assert not [one for one in report.problems if path.name in one and NAME in one]


def test_what_was_not_cut_is_known_of_an_old_segment_too(tmp_path: Path) -> None:
    files = run_files.RunFiles(tmp_path / "run")
    files.write()
    path = files.layout.vector_segment(NAME, 0)
    found = segment_truncation(path, read_info(path, VectorSegmentInfo))
    assert (found.truncated, found.tokens_cut) == (0, 0)


@pytest.mark.parametrize(("field", "value"), [("truncated", 1), ("tokens_cut", 36), ("tokens_cut", None)])
def test_a_footer_that_counts_otherwise_is_a_problem(tmp_path: Path, field: str, value: int | None) -> None:
    files = committed(tmp_path / "run", counted=True)
    path = files.layout.vector_segment(NAME, 0)
    info = msgspec.structs.replace(read_info(path, VectorSegmentInfo), **{field: value})
    pq.write_table(with_info(pq.read_table(path).replace_schema_metadata(None), info), path, write_page_checksum=True)
    assert INFO_KEY in pq.read_schema(path).metadata
    assert any("its footer says" in one and "cut" in one for one in verify_run(files.root).problems)


def test_parts_add_up_and_what_is_unknown_stays_so() -> None:
    assert sum_truncations([]) == Truncation()
    assert sum_truncations([Truncation(2, 1, 20, 5), Truncation(3, 0, 10, 0)]) == Truncation(5, 1, 30, 5)
    assert sum_truncations([Truncation(2, 1, 20, 5), Truncation(3, 1, 10, None)]).tokens_cut is None
    assert Truncation(4, 1, 30, 10).record() == {
        "truncated": 1,
        "truncated_share": 0.25,
        "tokens_cut": 10,
        "tokens_cut_share": 0.25,
    }
    assert (Truncation().share_truncated, Truncation().share_cut) == (0.0, 0.0)


def test_more_than_a_hundredth_is_said_with_what_helps() -> None:
    assert advice("v", Truncation(1000, 10, 100, 1), 256, None) == ""
    said = advice("v", Truncation(1000, 125, 9_000, 1_000), 256, None)
    assert "125 of 1,000 chunks (12.5%) were cut at 256 tokens; 10.0% of all tokens" in said
    assert "a model that takes longer texts, or smaller chunks" in said
    assert "a larger --max-tokens than 128, a model" in advice("v", Truncation(10, 1, 9, 1), 128, 128)
    assert "not known" in advice("v", Truncation(10, 1, 9, None), 0, None)
    assert [percent(one) for one in (0, 0.00001, 0.125, None)] == ["0.0%", "<0.1%", "12.5%", "unknown"]
    assert cut_cell(Truncation(2000, 1500, 1, 1)) == "1,500 / 50.0%"
