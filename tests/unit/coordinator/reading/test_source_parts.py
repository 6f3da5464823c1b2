"""The parts of a source, one after another, are the source."""

from __future__ import annotations

import errno
import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.reading.readers import read_records
from embedfleet.coordinator.reading.records import Reject
from embedfleet.coordinator.reading.running_digest import RunningDigest
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.source import unpacked
from embedfleet.protocol.source.corpus import survey
from embedfleet.protocol.source.parts import part_of
from embedfleet.protocol.source.source_file import SourceFile
from embedfleet.protocol.source.unpacked import digest_of
from embedfleet.protocol.spec.shard import Shard
from hypothesis import given, settings
from hypothesis import strategies as st


def lines(count: int, start: int = 0) -> bytes:
    """Lines of very different lengths."""
    return b"".join(
        json.dumps({"text": f"{number} " + "ä" * (number * 37 % 90)}, ensure_ascii=False).encode() + b"\n"
        for number in range(start, start + count)
    )


def records(files: list[SourceFile]) -> list[tuple[str, int, object]]:
    """Name, number and item of every record; of a reject its reason."""
    return [
        (file.name, number, item.reason if isinstance(item, Reject) else item)
        for file in files
        for block in read_records(file)
        for number, item in block
    ]


def in_parts(source: Path, count: int) -> list[tuple[str, int, object]]:
    files = survey(str(source)).files
    return [one for index in range(count) for one in records(part_of(files, Shard(index, count)))]


SOURCES = {
    "plain": lines(40),
    "without a last line end": lines(40)[:-1],
    "blank lines": b"\n\n" + lines(9) + b"\n \n\n" + lines(9),
    "carriage returns": lines(20).replace(b"\n", b"\r\n"),
    "a mark at the beginning": b"\xef\xbb\xbf" + lines(20),
    "a mark inside": lines(20).replace(b"\n", b"\n\xef\xbb\xbf", 1),
    "damaged lines": lines(10) + b'{"text": \n' + lines(10) + b"[1]\nnull\n",
    "one long line": lines(3) + json.dumps({"text": "x" * 9000}).encode() + b"\n" + lines(3),
    "one line": lines(1),
    "pairs of a bulk file": b"".join(b'{"index": {"_id": "%d"}}\n{"text": "t"}\n' % number for number in range(20)),
    "an action inside": lines(10) + b'{"index": {"_id": "3"}}\n' + lines(10),
    "Windows-1252": b"".join(b'{"text": "caf\xe9 %d"}\n' % number for number in range(30)),
    "UTF-16": lines(20).decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_lines_of_all_parts_are_those_of_the_file(tmp_path: Path, name: str, count: int) -> None:
    (tmp_path / "c.jsonl").write_bytes(SOURCES[name])
    assert in_parts(tmp_path / "c.jsonl", count) == records(survey(str(tmp_path / "c.jsonl")).files)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=12), max_size=20).map(b"\n".join).filter(lambda data: data.strip()),
    st.integers(1, 9),
)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, count: int) -> None:
    path = tmp_path_factory.mktemp("parts") / "c.jsonl"
    path.write_bytes(data)
    assert in_parts(path, count) == records(survey(str(path)).files)


def test_a_folder_of_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(30))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(50, 100)))
    (tmp_path / "c.json").write_text(json.dumps([{"text": f"in an array {number}"} for number in range(30)]))
    (tmp_path / "d.jsonl").write_bytes(b"")
    table = pa.table({"text": [f"row {number}" for number in range(100)]})
    pq.write_table(table, tmp_path / "e.parquet", row_group_size=9)
    (tmp_path / "f.jsonl").write_bytes(lines(5))
    (tmp_path / "g.jsonl").write_bytes(b"")
    whole = records(survey(str(tmp_path)).files)
    assert len(whole) == 30 + 50 + 30 + 100 + 5
    for count in (1, 2, 5, 16, 200):
        assert in_parts(tmp_path, count) == whole


def test_parts_of_one_large_file_are_even(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(lines(4000))
    files = survey(str(tmp_path)).files
    counts = [len(records(part_of(files, Shard(index, 8)))) for index in range(8)]
    assert sum(counts) == 4000
    assert max(counts) - min(counts) < 20


def test_row_groups_are_divided(tmp_path: Path) -> None:
    texts = [random.Random(n).randbytes(400).hex() for n in range(1000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "c.parquet", row_group_size=50)
    files = survey(str(tmp_path)).files
    counts = [len(records(part_of(files, Shard(index, 4)))) for index in range(4)]
    assert sum(counts) == 1000
    assert max(counts) <= 300


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_part_is_read_on_and_recognised_by_its_own_bytes(tmp_path: Path, format_: str) -> None:
    path = tmp_path / f"c.{format_}"
    if format_ == "jsonl":
        path.write_bytes(lines(60))
    else:
        texts = [random.Random(n).randbytes(400).hex() for n in range(60)]
        pq.write_table(pa.table({"text": texts}), path, row_group_size=5)
    for index in range(3):
        [part] = part_of(survey(str(path)).files, Shard(index, 3))
        digest = RunningDigest()
        found = [number for block in read_records(part, digest=digest) for number, _ in block]
        assert digest.total == digest_of(part)
        half = found[len(found) // 2]
        again = RunningDigest()
        rest = [number for block in read_records(part, half, again) for number, _ in block]
        assert rest == [number for number in found if number > half]
        assert again.total == digest.total
        mark = RunningDigest()
        blocks = read_records(part, digest=mark)
        for block in blocks:
            if block and block[-1][0] >= half:
                break
        passed = mark.mark(half)
        assert digest_of(part, passed.n_bytes) == passed.digest


def test_another_part_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(lines(60))
    files = survey(str(tmp_path)).files
    digests = {digest_of(part_of(files, Shard(index, 4))[0]) for index in range(4)}
    assert len(digests) == 4
    assert None not in digests


def test_more_shards_than_bytes_leave_some_empty(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "a"}\n')
    assert len(in_parts(tmp_path, 100)) == 1


def test_a_beginning_that_cannot_be_read_is_an_error_and_not_a_guess(tmp_path: Path, monkeypatch: Any) -> None:
    """A shard that took the file for one that is not cut would lose its records, or double them."""
    (tmp_path / "c.jsonl").write_bytes(lines(60))
    files = survey(str(tmp_path)).files
    with monkeypatch.context() as patch:

        def failing(*_: object) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(unpacked, "raw_bytes", failing)
        for _ in range(2):
            with pytest.raises(SourceError, match=r"c\.jsonl cannot be read \(Input/output error\), and its beginning"):
                part_of(files, Shard(1, 4))
    assert [one.is_part for one in part_of(files, Shard(1, 4))] == [True], "nothing was remembered"


def damaged_footer(path: Path) -> list[SourceFile]:
    texts = [random.Random(n).randbytes(400).hex() for n in range(100)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=10)
    path.write_bytes(path.read_bytes()[:-40] + b"x" * 36 + b"PAR1")
    return survey(str(path)).files


def test_a_damaged_footer_is_reported_once(tmp_path: Path) -> None:
    files = damaged_footer(tmp_path / "c.parquet")
    whole = records(files)
    assert len(whole) == 1
    assert in_parts(tmp_path / "c.parquet", 4) == whole


def test_a_part_of_a_file_with_a_damaged_footer_has_no_digest(tmp_path: Path) -> None:
    files = damaged_footer(tmp_path / "c.parquet")
    assert [digest_of(one) for index in range(3) for one in part_of(files, Shard(index, 3))] == [None] * 3


@pytest.mark.parametrize("name", ["plain", "a mark inside", "blank lines", "damaged lines"])
def test_a_part_with_its_own_lines_counts_them_and_reads_none_before(
    tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    (tmp_path / "c.jsonl").write_bytes(SOURCES[name])
    for index in range(9):
        for part in part_of(survey(str(tmp_path)).files, Shard(index, 9)):
            before = SOURCES[name][: part.start - 1].count(b"\n") + 1 if part.start else 0
            expected = [(one, number - before, item) for one, number, item in records([part])]
            with monkeypatch.context() as patch:
                patch.setattr("embedfleet.coordinator.reading.readers.count_lines", None)
                own = replace(part, own_lines=True)
                assert records([own]) == expected
            assert own.from_byte == part.start
