"""The survey of a source: counts, samples and sizes, over files of all formats."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.planning import sampling
from embedfleet.coordinator.planning.survey import survey
from embedfleet.protocol.errors import DeviceError, SourceError
from embedfleet.protocol.planning.survey import Survey, SurveyRequest, sample_source, sample_table
from embedfleet.protocol.spec.run_spec import PREPROCESSING, PassSpec, RunSpec


def records(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"c{row}", "text": f"row {row} " * (1 + row % 9), "page": row} for row in range(first, first + count)
    ]


def lines(found: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in found)


def surveyed(source: Path, tmp_path: Path, rows: int = 32_768, **more: Any) -> Survey:
    passes = (PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),)
    spec = RunSpec(source=str(source), passes=passes, preprocessing=PREPROCESSING, **more)
    folder = tmp_path / "sample"
    folder.mkdir(exist_ok=True)
    return survey(SurveyRequest(spec=spec, folder=str(folder), devices="cpu", sample_rows=rows))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of 1,000 rows in five formats, with 3 duplicates, 2 conflicts and 4 other rejects."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    odd = b'{"id": "c0", "text": "row 0 "}\n\n  \n{"id": "c1", "text": "another"}\nno json\n{"id": "x"}\n'
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(records(300)) + odd)
    with gzip.open(folder / "b.jsonl.gz", "wb") as packed:
        packed.write(lines(records(200, 300)) + b'{"id": "c2", "text": ""}\n{"id": "c300", "text": "other"}')
    (folder / "c.json").write_text(json.dumps([*records(100, 500), {"id": "c501", "text": "row 501 " * 7}, 7]))
    pq.write_table(pa.Table.from_pylist(records(250, 600)), folder / "d.parquet", row_group_size=90)
    actions = [({"index": {"_id": f"c{row}"}}, {"text": f"document {row}"}) for row in range(850, 1_000)]
    bulk = [one for pair in actions for one in pair] + [{"index": {"_id": "c850"}}, {"text": "document 850"}]
    (folder / "e.ndjson").write_bytes(lines(bulk))
    return folder


def test_a_small_source_is_counted_exactly(mixed: Path, tmp_path: Path) -> None:
    found = surveyed(mixed, tmp_path)
    assert found.exact
    assert (found.files, found.rows, found.rejected, found.duplicates) == (5, 1_000, 6, 3)
    assert found.sampled_rows == 1_000
    assert found.text_bytes == sum(len(text.encode()) for text in sample_texts(tmp_path))
    assert sample_source(tmp_path / "sample").read_bytes().count(b"\n") == 1_000
    assert [one.kind for one in found.devices if not one.auxiliary] == ["cpu"]


def sample_texts(tmp_path: Path) -> list[str]:
    return pq.read_table(sample_table(tmp_path / "sample")).column("text").to_pylist()


def test_a_large_one_is_sampled_and_its_records_are_still_counted(mixed: Path, tmp_path: Path) -> None:
    found = surveyed(mixed, tmp_path, rows=100)
    assert not found.exact
    assert found.records == 1_009
    assert found.looked_at < 200
    assert found.rows == pytest.approx(1_000, rel=0.08)
    assert found.sampled_rows <= found.looked_at
    assert found.text_bytes / found.rows == pytest.approx(surveyed(mixed, tmp_path).text_bytes / 1_000, rel=0.3)


def test_many_duplicates_are_estimated_from_pairs(tmp_path: Path) -> None:
    source = tmp_path / "twice.jsonl"
    source.write_bytes(lines(records(20_000)) + lines(records(5_000)))
    found = surveyed(source, tmp_path, rows=4_000)
    assert found.records == 25_000
    assert found.duplicates == pytest.approx(5_000, rel=0.2)
    assert found.rows == pytest.approx(20_000, rel=0.05)
    assert not found.rare_duplicates


def test_few_duplicates_in_the_sample_are_no_basis(tmp_path: Path) -> None:
    source = tmp_path / "few.jsonl"
    source.write_bytes(lines(records(20_000)) + lines(records(20)) * 3)
    found = surveyed(source, tmp_path, rows=8_000)
    assert found.rare_duplicates
    assert found.duplicates == 0
    assert found.rows == found.records


def test_large_parquet_is_counted_by_its_footers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(4):
        table = pa.Table.from_pylist(records(5_000, number * 5_000))
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=250)
    (folder / "z.jsonl").write_bytes(lines(records(1_000, 20_000)))
    monkeypatch.setattr(sampling, "READ_BYTES", 1 << 10)
    found = surveyed(folder, tmp_path, rows=2_000)
    assert found.records == found.rows == 21_000
    assert not found.exact
    # 16 groups of 250 rows, each without its first row, and the lines
    assert found.looked_at == 16 * 249 + 1_000
    assert found.rejected == found.duplicates == 0
    whole = surveyed(folder, tmp_path)
    assert found.text_bytes == pytest.approx(whole.text_bytes, rel=0.02)
    assert found.chunk_bytes == pytest.approx(whole.chunk_bytes, rel=0.1)


def test_a_limit_ends_with_the_last_chunk_of_the_run(mixed: Path, tmp_path: Path) -> None:
    found = surveyed(mixed, tmp_path, limit=320)
    assert (found.rows, found.sampled_rows) == (320, 320)
    assert found.rejected == 3, "of the first file"
    assert surveyed(mixed, tmp_path, rows=50, limit=320).rows == 320


def test_titles_and_named_fields_are_those_of_the_run(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines([{"key": "a", "title": "A title", "body": "the text"}]))
    surveyed(source, tmp_path, text_field="body", id_field="key", title_field="title")
    assert sample_texts(tmp_path) == ["A title the text"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1}\n', "not one record in it can be used"), (b"\n\n", "there is no record in it")],
)
def test_a_source_without_a_usable_record_is_refused_as_by_a_run(content: bytes, message: str, tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        surveyed(source, tmp_path)


def test_a_damaged_file_gives_the_records_before_the_damage(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl.gz"
    source.write_bytes(gzip.compress(lines(records(5_000)))[:-200])
    found = surveyed(source, tmp_path)
    assert found.rejected == 1
    assert 0 < found.rows < 5_000


def test_devices_that_are_not_here_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines(records(3)))
    spec = RunSpec(source=str(source), passes=(), preprocessing=PREPROCESSING)
    with pytest.raises(DeviceError, match="is not a device"):
        survey(SurveyRequest(spec=spec, folder=str(tmp_path), devices="tpu"))
