"""Files that are divided among shards: merged, they are the run of the whole source, without a gap and nothing twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.client.run_directory.reader import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.merging.merge import merge_shards
from embedfleet.exporter.merging.source_files import Break, find_breaks
from embedfleet.protocol.errors import RunDirectoryError, SourceError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import FileStamp
from embedfleet.protocol.run_directory.records.manifest import read_manifest
from embedfleet.protocol.run_directory.records.merge import OnDuplicate
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.source.check import read_stamps
from embedfleet.protocol.source.row_groups import groups_of
from embedfleet.protocol.spec.run_spec import PREPROCESSING, RunSpec

from ....run_copies import copied
from ....shard_runs import DENSE, SPARSE, divide, divided_shard, embed, put


def merge(root: Path, on_duplicate: OnDuplicate = "fail") -> None:
    merge_shards(RunLayout(root), on_duplicate, lambda _step, _done, _of: None)


def spec_of(source: Path) -> RunSpec:
    return RunSpec(source=str(source), passes=(DENSE, SPARSE), index="none", preprocessing=PREPROCESSING)


def write_lines(path: Path) -> Path:
    """Records without ids, some of them unusable or damaged, and an id that stands twice with other texts."""
    lines = [json.dumps({"text": f"text {row} {'and more ' * (row % 5)}"}) for row in range(60)]
    lines[7] = '{"text": '
    lines[23] = json.dumps({"text": ""})
    lines[31] = ""
    lines[44] = json.dumps({"text": "unusable, as it is"})
    for row in (10, 41, 55):
        lines[row] = json.dumps({"id": "same", "text": f"another text {row}"})
    path.write_text("\n".join(lines) + "\n")
    return path


def write_parquet(path: Path) -> Path:
    texts: list[str | None] = [f"text {row} of the table" for row in range(60)]
    texts[7], texts[23], texts[44] = None, "", "unusable, as it is"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=5)
    return path


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_a_divided_file_is_one_run(tmp_path: Path, name: str, count: int) -> None:
    source = (write_lines if name == "c.jsonl" else write_parquet)(tmp_path / name)
    divide(spec_of(source), tmp_path / "run", count)
    merge(tmp_path / "run", "first")
    whole = embed(spec_of(source), tmp_path / "whole")
    assert verify_run(tmp_path / "run").problems == []
    ours, theirs = open_run(tmp_path / "run"), open_run(whole)
    assert ours.chunks.equals(theirs.chunks)
    np.testing.assert_array_equal(ours.vectors(DENSE.vector), theirs.vectors(DENSE.vector))
    found, expected = (
        [orjson.loads(line) for line in (one / "quarantine.jsonl").read_bytes().splitlines()]
        for one in (tmp_path / "run", whole)
    )
    assert len(expected) == (5 if name == "c.jsonl" else 3)
    assert found == expected, "the same numbers and reasons"
    one, other = read_manifest(RunLayout(tmp_path / "run")), read_manifest(RunLayout(whole))
    assert one is not None
    assert other is not None
    assert one.counts == other.counts
    parts = [stamp for index in range(count) for stamp in read_stamps(RunLayout(tmp_path / "run").shard(index)) or ()]
    assert count == 1 or len(parts) > 1, "it was divided"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardsRecord, Path]:
    """Four shards of a file of lines."""
    folder = tmp_path_factory.mktemp("divided")
    return divide(spec_of(write_lines(folder / "c.jsonl")), folder / "run", 4), folder / "run"


@pytest.fixture
def root(made: tuple[ShardsRecord, Path], tmp_path: Path) -> Path:
    return copied(made[1], tmp_path / "run")


def refusal(root: Path) -> str:
    with pytest.raises(RunDirectoryError) as caught:
        merge(root, "first")
    assert not (root / "chunks").exists()
    return str(caught.value)


@pytest.mark.parametrize("index", range(4))
def test_a_shard_that_took_the_file_for_a_whole_one(
    made: tuple[ShardsRecord, Path], root: Path, monkeypatch: Any, index: int
) -> None:
    """Once it left out its part, and nobody saw it; the first one read all of the file, and its records were doubled."""
    shutil.rmtree(RunLayout(root).shard(index).root)
    with monkeypatch.context() as patch:
        patch.setattr("embedfleet.protocol.source.parts._is_divisible", lambda _file: False)
        divided_shard(made[0], root, index)
    message = refusal(root)
    assert f"shard {index} does not join the others: what comes after byte" in message
    assert f"--shard {index}/4 --restart" in message
    shutil.rmtree(RunLayout(root).shard(index).root)
    divided_shard(made[0], root, index)
    merge(root, "first")
    assert open_run(root).rows == 55


def test_parts_that_do_not_join(root: Path) -> None:
    shard = RunLayout(root).shard(2)
    stamps = json.loads(shard.source.read_bytes())
    stamps[0]["start"] += 1
    shard.source.write_text(json.dumps(stamps))
    assert "shard 2 does not join the others" in refusal(root)


def test_a_file_that_changed_without_another_size(made: tuple[ShardsRecord, Path], root: Path) -> None:
    files = [msgspec.structs.replace(one, e_tag="one") for one in made[0].files]
    record = msgspec.structs.replace(made[0], files=tuple(files))
    RunLayout(root).shards_record.write_bytes(msgspec.json.encode(record))
    for index, e_tag in enumerate(["one", "two", "one", ""]):
        shard = RunLayout(root).shard(index)
        [stamp] = read_stamps(shard) or ()
        shard.source.write_bytes(msgspec.json.encode([msgspec.structs.replace(stamp, e_tag=e_tag)]))
    message = refusal(root)
    assert "1 of 4 shards cannot be merged: shard 1 read c.jsonl with other content" in message
    assert "--shard 1/4 --restart" in message


class Parts:
    """What `find_breaks` needs of a shard."""

    def __init__(self, index: int, parts: Sequence[tuple[int, int, int]]) -> None:
        self.index = index
        self.files = tuple(place for place, _, _ in parts)
        self.parts = tuple((start, end) for _, start, end in parts)


def breaks(*shards: Sequence[tuple[int, int, int]]) -> list[Break]:
    """Of two files of 100 bytes and an empty one, `e`, between them."""
    files = [FileStamp("a", 100, 0), FileStamp("e", 0, 0), FileStamp("b", 100, 0)]
    found: Any = [Parts(index, parts) for index, parts in enumerate(shards)]
    return list(find_breaks(files, found))


A, E, B = (0, 0, 100), (1, 0, 0), (2, 0, 100)


@pytest.mark.parametrize(
    ("shards", "suspects"),
    [
        (([A, E], [B]), []),
        (([A], [E, B]), []),
        (([A, E, B], []), []),
        (([(0, 0, 50)], [(0, 50, 100), E, (2, 0, 9)], [], [(2, 9, 100)]), []),
        (([A, E], []), [(1,)]),
        (([], [B]), [(0,)]),
        (([A], [B]), [(1,)]),
        (([A, E, E], [B]), [(0,)]),
        (([A, E], [E, B]), [(0, 1)]),
        (([A, E, B], [B]), [(0, 1)]),
        (([(0, 0, 50)], [(0, 60, 100), E, B]), [(0, 1)]),
        (([(0, 0, 50)], [(0, 40, 100), E, B]), [(0, 1)]),
        (([(0, 0, 50)], [E, B]), [(0,)]),
        (([(0, 0, 50)], [(0, 50, 100), E, (2, 0, 60)], [], []), [(1, 3)]),
        (([], []), [(0, 1)]),
    ],
)
def test_what_does_not_join(shards: Sequence[Any], suspects: Sequence[tuple[int, ...]]) -> None:
    assert [one.shards for one in breaks(*shards)] == suspects


def test_shards_without_a_chunk_are_no_run(tmp_path: Path) -> None:
    put(tmp_path / "c.jsonl", [{"body": f"a record with another field {row}"} for row in range(20)])
    divide(spec_of(tmp_path / "c.jsonl"), tmp_path / "run", 3)
    with pytest.raises(
        SourceError, match=r"c\.jsonl: not one record in it can be used \(20 rejected\): .*--text-field"
    ):
        merge(tmp_path / "run")
    assert not (tmp_path / "run" / "merge.json").exists()


def test_a_source_of_blank_lines_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("\n" * 20)
    divide(spec_of(tmp_path / "c.jsonl"), tmp_path / "run", 2)
    with pytest.raises(SourceError, match="there is no record in it"):
        merge(tmp_path / "run")


def write_damaged_parquet(path: Path, groups: Collection[int]) -> Path:
    """Row groups of five rows, of which some cannot be read."""
    texts = [f"text {row} of the table " * 9 for row in range(60)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=5, compression="zstd")
    content = bytearray(path.read_bytes())
    meta = pq.read_metadata(path)
    for number in groups:
        column = meta.row_group(number).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    return path


def rows_in(out: Path) -> tuple[list[int], list[tuple[int, str]]]:
    """The rows of the table that became chunks, and the rejected records with their reasons."""
    run = open_run(out)
    numbers = [int(text.split()[1]) for text in run.chunks.column("text").to_pylist()]
    return numbers, [(line["record"], line["reason"]) for line in run.quarantine]


@pytest.mark.parametrize("damaged", [(4,), (4, 5), (1,), (11,), (3, 9)])
@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_no_row_beside_a_damaged_row_group_is_lost_silently(
    tmp_path: Path, damaged: tuple[int, ...], count: int
) -> None:
    """Each shard leaves out the rest of its own part, and says so."""
    source = write_damaged_parquet(tmp_path / "c.parquet", damaged)
    divide(spec_of(source), tmp_path / "run", count)
    merge(tmp_path / "run")
    assert verify_run(tmp_path / "run").problems == []
    numbers, rejects = rows_in(tmp_path / "run")
    expected, places, first = list[int](), list[int](), 0
    for index in range(count):
        stamps = read_stamps(RunLayout(tmp_path / "run").shard(index)) or ()
        last = first + 5 * sum(len(groups_of(pq.read_metadata(source), one.start, one.end)) for one in stamps)
        broken = min((5 * group for group in damaged if first <= 5 * group < last), default=last)
        expected += range(first, broken)
        places += [broken + 1] * (broken < last)
        first = last
    assert first == 60
    assert numbers == expected
    assert [record for record, _ in rejects] == places
    assert all(f"{source} is damaged or cannot be read from here on" in reason for _, reason in rejects)
    assert all("the rest of this part of it is left out" in reason for _, reason in rejects)


def test_one_run_leaves_out_what_follows_a_damaged_row_group(tmp_path: Path) -> None:
    source = write_damaged_parquet(tmp_path / "c.parquet", (3, 9))
    numbers, [(record, reason)] = rows_in(embed(spec_of(source), tmp_path / "whole"))
    assert (numbers, record) == (list(range(15)), 16)
    assert reason.endswith("; the rest of it is left out")
