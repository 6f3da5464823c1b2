"""A source that is read again: its content decides, wherever the first intake was broken off."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.client.options.stdin_check import check_stdin
from embedfleet.coordinator.intake.loader import ChunkLoader, IntakeCounts, SegmentLimits, SpooledSegment
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo
from embedfleet.protocol.run_directory.tables import read_info, with_info
from embedfleet.protocol.source.check import FileStamp, is_moved, read_trail, was_read
from embedfleet.protocol.source.corpus import survey
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard

PASSES = (PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),)
ROWS = 4
CHANGED = "the source changed since its intake began: "


class Intake:
    """Intakes of one source into one run directory."""

    def __init__(self, source: Path | str, root: Path, **spec: Any) -> None:
        self.layout = RunLayout(root)
        self.spec = RunSpec(source=str(source), passes=PASSES, **spec)
        self.left_out: list[str] = []

    def load(self, stop_after: int | None = None, meanwhile: Callable[[], object] | None = None) -> IntakeCounts:
        """`stop_after` is the segment after which it is broken off, as by a kill. `meanwhile` is called after the first."""

        def on_segment(one: SpooledSegment) -> None:
            if one.segment == 0 and meanwhile is not None:
                meanwhile()
            if one.segment == stop_after:
                raise KeyboardInterrupt

        limits = SegmentLimits(ROWS, 1000)
        loader = ChunkLoader(self.spec, self.layout, limits, on_segment, lambda: False, self.left_out.append)
        return loader.load()

    def broken_off(self, stop_after: int) -> Intake:
        with pytest.raises(KeyboardInterrupt):
            self.load(stop_after)
        return self

    def ids(self) -> list[str]:
        paths = sorted(self.layout.chunks.glob("*.parquet"))
        return [one for path in paths for one in pq.read_table(path).column("id").to_pylist()]

    def files(self) -> dict[str, bytes]:
        paths = [*sorted(self.layout.chunks.iterdir()), *sorted(self.layout.intake_folder.iterdir())]
        return {path.name: path.read_bytes() for path in paths if path.name != "source.json"}

    def forget_digests(self) -> None:
        """Leave the directory as 0.1.0 wrote it."""
        for path in self.layout.chunks.glob("*.parquet"):
            info = msgspec.structs.replace(read_info(path, ChunkSegmentInfo), passed=None)
            pq.write_table(with_info(pq.read_table(path), info), path)
        if self.layout.intake.exists():
            record = orjson.loads(self.layout.intake.read_bytes())
            record.pop("finished", None)
            self.layout.intake.write_bytes(orjson.dumps(record))


def lines(first: int, stop: int, word: str = "text") -> bytes:
    return b"".join(orjson.dumps({"id": f"d{n:02}", "text": f"{word} {n:02}"}) + b"\n" for n in range(first, stop))


def touch(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(7, 7))


def every_format(root: Path, word: str = "text") -> Path:
    """40 chunks, ten a file; of each kind of file one that ends in the middle of a segment. Sizes do not hang on `word`."""
    root.mkdir()
    (root / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(0, 10, word) + b"bad\n\n\n")
    with gzip.GzipFile(root / "b.jsonl.gz", "wb", 0, mtime=0) as packed:
        packed.write(lines(10, 20, word)[:-1])
    values = [orjson.loads(one) for one in lines(20, 30, word).splitlines()]
    (root / "c_chunks.json").write_bytes(orjson.dumps([*values, 7], option=orjson.OPT_INDENT_2))
    table = pa.Table.from_pylist([orjson.loads(one) for one in lines(30, 40, word).splitlines()])
    pq.write_table(table, root / "d.parquet", row_group_size=3, compression="none", use_dictionary=False)
    return root


@pytest.mark.parametrize("segments", [*range(10), None])
def test_a_touched_source_goes_on_wherever_it_was_broken_off(tmp_path: Path, segments: int | None) -> None:
    source = every_format(tmp_path / "corpus")
    whole = Intake(source, tmp_path / "whole")
    counts = whole.load()
    intake = Intake(source, tmp_path / "run")
    if segments is None:
        intake.load()
    else:
        intake.broken_off(segments)
    touch(source)
    assert intake.load() == counts
    assert intake.files() == whole.files()
    stamps = msgspec.json.decode(intake.layout.source.read_bytes(), type=list[FileStamp])
    assert [one.mtime_ns for one in stamps] == [7] * 4, "the next time, nothing has to be read for it"
    assert intake.load() == counts


@pytest.mark.parametrize("segments", [*range(1, 10), None])
@pytest.mark.parametrize("file", range(4))
def test_other_content_of_the_same_size_is_refused_where_it_was_read(
    tmp_path: Path, segments: int | None, file: int
) -> None:
    source, other = every_format(tmp_path / "corpus"), every_format(tmp_path / "other", "word")
    intake = Intake(source, tmp_path / "run")
    if segments is None:
        intake.load()
    else:
        intake.broken_off(segments)
    before = intake.files()
    name = sorted(path.name for path in source.iterdir())[file]
    assert (source / name).stat().st_size == (other / name).stat().st_size
    shutil.copyfile(other / name, source / name)
    read = 10 if segments is None else (segments + 1) * ROWS / 10
    if file < read:
        with pytest.raises(SourceError, match=f"{CHANGED}{name} has other content"):
            intake.load()
        assert all(intake.files()[name] == data for name, data in before.items() if name.endswith(".parquet"))
    else:
        assert intake.load().rows == 40, "nothing of it had been read"


def test_a_change_beyond_the_last_segment_is_no_matter_where_nothing_stands_of_it(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines(0, 10))
    intake = Intake(source, tmp_path / "run").broken_off(0)
    source.write_bytes(lines(0, 4) + lines(4, 10, "word"))
    assert intake.load().rows == 10
    assert pq.read_table(intake.layout.chunk_segment(1)).column("text").to_pylist()[0] == "word 04"


def test_a_change_of_rows_that_have_vectors_is_refused_although_their_chunks_are_gone(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines(0, 12))
    intake = Intake(source, tmp_path / "run")
    intake.load()
    vectors = intake.layout.vector_segment("dense-fake-8", 2)
    vectors.parent.mkdir(parents=True)
    vectors.write_bytes(b"PAR1PAR1")
    intake.layout.passes.mkdir()
    intake.layout.pass_file("dense-fake-8").write_text("{}")
    intake.layout.chunk_segment(1).unlink()
    stat = source.stat()
    source.write_bytes(lines(0, 9) + lines(9, 12, "word"))
    with pytest.raises(SourceError, match=f"{CHANGED}c.jsonl has other content"):
        intake.load()
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if nobody had touched it
    with pytest.raises(SourceError, match=f"{CHANGED}c.jsonl has other content"):
        intake.load()
    source.write_bytes(lines(0, 12))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert intake.load().rows == 12


def test_somebodys_own_folder_among_the_vectors_says_nothing_of_the_source(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines(0, 12))
    intake = Intake(source, tmp_path / "run")
    mine = intake.layout.vectors / "mine" / "00007.parquet"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert intake.broken_off(1).load().rows == 12
    assert not read_trail(intake.layout).read_beyond


def rename_another(path: Path, data: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(data)
    os.replace(other, path)


WHILE_READ: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut at the end of a line": (lambda path: os.truncate(path, path.stat().st_size // 2), "had"),
    "cut to a few bytes": (lambda path: os.truncate(path, 10), "had"),
    "one more line": (lambda path: path.write_bytes(path.read_bytes() + lines(98, 99)), "had"),
    "other words in place": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"text", b"word")),
        "has other content",
    ),
    "another file of its name": (lambda path: rename_another(path, path.read_bytes()[::-1]), "has other content"),
}


def large(path: Path) -> Path:
    """24 chunks of 200 kB, several blocks, so that an intake is in the middle of them after the first segment."""
    path.write_bytes(b"".join(b'{"id":"%02d","text":"%s"}\n' % (number, b"text " * 40_000) for number in range(24)))
    return path


@pytest.mark.parametrize("case", WHILE_READ)
def test_a_source_that_changes_while_it_is_read_is_refused_at_its_end(tmp_path: Path, case: str) -> None:
    """Rows were lost without a word before: a file that was cut ended the intake as if it were whole."""
    act, what = WHILE_READ[case]
    source = large(tmp_path / "c.jsonl")
    intake = Intake(source, tmp_path / "run")
    for meanwhile in (lambda: act(source), None):
        with pytest.raises(SourceError, match=f"{CHANGED}c.jsonl {what}"):
            intake.load(meanwhile=meanwhile)
        assert not intake.layout.intake.exists(), "nothing says that the source was read to its end"


def test_a_source_that_is_touched_or_removed_while_it_is_read_goes_on(tmp_path: Path) -> None:
    for number, act in enumerate((lambda path: os.utime(path, ns=(7, 7)), Path.unlink)):
        source = large(tmp_path / "c.jsonl")
        intake = Intake(source, tmp_path / f"run{number}")
        assert intake.load(meanwhile=lambda act=act, source=source: act(source)).rows == 24
        assert intake.load().rows == 24


def test_a_limit_ends_what_has_to_be_the_same(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    for name in "ab":
        (source / f"{name}.jsonl").write_bytes(lines(0, 10, name))
    intake = Intake(source, tmp_path / "run", limit=6)
    assert intake.load().rows == 6
    (source / "a.jsonl").write_bytes(lines(0, 6, "a") + lines(6, 10, "x"))
    (source / "b.jsonl").write_bytes(lines(0, 10, "y"))
    assert intake.load().rows == 6
    (source / "a.jsonl").write_bytes(lines(0, 5, "a") + lines(5, 10, "x"))
    with pytest.raises(SourceError, match=CHANGED):
        intake.load()


def test_a_source_of_which_nothing_could_be_used_may_be_mended(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines(0, 5).decode().encode("utf-16"))
    intake = Intake(source, tmp_path / "run")
    with pytest.raises(SourceError, match="is UTF-16"):
        intake.load()
    source.write_bytes(lines(0, 5))
    assert intake.load().rows == 5


@pytest.mark.parametrize("gone", ["file", "folder", "mount"])
def test_a_finished_intake_needs_no_source(tmp_path: Path, gone: str) -> None:
    source = tmp_path / "c.jsonl" if gone == "file" else every_format(tmp_path / "corpus")
    if gone == "file":
        source.write_bytes(lines(0, 9))
    intake = Intake(source, tmp_path / "run")
    counts = intake.load()
    intake.layout.spec.write_bytes(msgspec.json.encode(intake.spec))
    if gone == "file":
        source.unlink()
    else:
        shutil.rmtree(source)
    if gone == "mount":
        source.mkdir()
    assert intake.load() == counts
    assert was_read(intake.layout.root, str(source))
    assert not was_read(intake.layout.root, "another")
    intake.layout.chunk_segment(1).unlink()
    assert not was_read(intake.layout.root, str(source))
    with pytest.raises(SourceError, match=r"no such file|holds no chunks"):
        intake.load()


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b'[{"path": "\xff"}]'),
    "of another type": lambda path: path.write_bytes(b'{"path": "a.jsonl"}'),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("segments", [*range(10), None])
def test_the_stamps_of_the_source_are_made_anew_where_the_content_is_known(
    tmp_path: Path, how: str, segments: int | None
) -> None:
    source = every_format(tmp_path / "corpus")
    whole = Intake(source, tmp_path / "whole")
    counts = whole.load()
    intake = Intake(source, tmp_path / "run")
    if segments is None:
        intake.load()
    else:
        intake.broken_off(segments)
    stamps = intake.layout.source.read_bytes()
    DAMAGE[how](intake.layout.source)
    assert intake.load() == counts
    assert (intake.files(), intake.layout.source.read_bytes()) == (whole.files(), stamps)


@pytest.mark.parametrize("segments", [2, 6, None])
@pytest.mark.parametrize("change", ["a.jsonl", "b.jsonl.gz", "c_chunks.json", "d.parquet", "first", "last", "without"])
def test_without_stamps_another_source_is_refused(tmp_path: Path, change: str, segments: int | None) -> None:
    source, other = every_format(tmp_path / "corpus"), every_format(tmp_path / "other", "word")
    intake = Intake(source, tmp_path / "run")
    if segments is None:
        intake.load()
    else:
        intake.broken_off(segments)
    intake.layout.source.unlink()
    match change:
        case "first":
            (source / "0.jsonl").write_bytes(lines(50, 55))
        case "last":
            (source / "x.jsonl").write_bytes(lines(50, 55))
        case "without":
            (source / "a.jsonl").unlink()
        case _:
            shutil.copyfile(other / change, source / change)
    read = {
        2: ("a.jsonl", "b.jsonl.gz", "first", "without"),
        6: ("a.jsonl", "b.jsonl.gz", "c_chunks.json", "first", "without"),
    }
    if segments is not None and change not in read[segments]:
        assert intake.load().rows == 40 + 5 * (change == "last"), "nothing of it had been read"
        return
    before = intake.files()
    with pytest.raises(SourceError, match=r"source\.json is gone or damaged, and .*; put .* as it was, or start over"):
        intake.load()
    assert intake.files() == before
    assert not intake.layout.source.exists()


def test_without_stamps_a_limit_ends_what_has_to_be_known(tmp_path: Path) -> None:
    source = every_format(tmp_path / "corpus")
    for limit in (6, 10, 14, 40):
        intake = Intake(source, tmp_path / f"run-{limit}", limit=limit)
        counts = intake.load()
        intake.layout.source.unlink()
        assert intake.load() == counts


@pytest.mark.parametrize("segments", [0, 2, 9, None])
def test_a_corpus_that_was_moved_is_known_by_its_content(tmp_path: Path, segments: int | None) -> None:
    source = every_format(tmp_path / "corpus")
    intake = Intake(source, tmp_path / "run")
    assert not moved(intake, source), "nothing was read yet"
    if segments is None:
        intake.load()
    else:
        intake.broken_off(segments)
    there = shutil.copytree(source, tmp_path / "elsewhere")
    assert moved(intake, there) == (segments is None), "its rest would say `elsewhere` in the metadata"
    (source / "c_chunks.json").rename(source / "c.json")
    (there / "c_chunks.json").rename(there / "c.json")
    assert not moved(intake, there), "of another name"
    intake.layout.source.unlink()
    assert moved(intake, there)
    assert not moved(intake, every_format(tmp_path / "other", "word"))
    intake.forget_digests()
    assert not moved(intake, there), "as 0.1.0 read it"


def moved(intake: Intake, source: Path) -> bool:
    return is_moved(str(source), survey(str(source), intake.layout.root), intake.layout)


def test_without_stamps_nobody_knows_what_0_1_0_read(tmp_path: Path) -> None:
    intake = Intake(every_format(tmp_path / "corpus"), tmp_path / "run")
    intake.load()
    intake.forget_digests()
    intake.layout.source.unlink()
    with pytest.raises(SourceError, match=r"a\.jsonl is not known to be what was read; .*--restart"):
        intake.load()


@pytest.mark.parametrize("whole", [True, False])
def test_a_directory_of_0_1_0_goes_by_the_times(tmp_path: Path, whole: bool) -> None:
    source = every_format(tmp_path / "corpus")
    intake = Intake(source, tmp_path / "run")
    if whole:
        intake.load()
    else:
        intake.broken_off(4)
    intake.forget_digests()
    assert read_trail(intake.layout).old
    assert intake.load().rows == 40
    touch(source)
    with pytest.raises(SourceError, match=f"{CHANGED}a.jsonl has other content"):
        intake.load()


def test_a_directory_of_0_1_0_keeps_the_files_that_it_was_made_of(tmp_path: Path) -> None:
    """Since then a folder's other .json files, linked folders and compressed arrays are read, and links once."""
    source = tmp_path / "corpus"
    (tmp_path / "elsewhere").mkdir()
    source.mkdir()
    for name in ("a", "c"):
        (source / f"{name}.jsonl").write_bytes(lines(0, 9, name).replace(b'"d', f'"{name}'.encode()))
    (source / "twin.jsonl").symlink_to("a.jsonl")
    intake = Intake(source, tmp_path / "run").broken_off(2)
    intake.forget_digests()
    stamps = [FileStamp(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(source.iterdir())]
    intake.layout.source.write_bytes(msgspec.json.encode(stamps))  # 0.1.0 had `twin.jsonl` too
    (source / "b.json").write_bytes(lines(50, 60))
    (source / "b.json.gz").write_bytes(gzip.compress(lines(60, 70)))
    (source / "bc_chunks.json.gz").write_bytes(gzip.compress(b"[" + lines(70, 71) + b"]"))
    (tmp_path / "elsewhere" / "e.jsonl").write_bytes(lines(80, 90))
    (source / "more").symlink_to("../elsewhere")
    counts = intake.load()
    assert (counts.rows, counts.duplicates) == (18, 9)
    assert intake.ids() == [f"{name}{n:02}" for name in "ac" for n in range(9)]
    (source / "new.jsonl").write_bytes(lines(90, 99))
    with pytest.raises(SourceError, match=f"{CHANGED}new.jsonl is new"):
        intake.load()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def give(data: bytes) -> None:
        buffer = io.BufferedReader(io.BytesIO(data))  # pyright: ignore[reportArgumentType]
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer, closed=False, isatty=lambda: False))

    return give


OTHERS = {
    "another": lines(0, 14, "word"),
    "another from a committed record on": lines(0, 5) + lines(5, 14, "word"),
    "shorter": lines(0, 5),
    "empty": b"",
    "the lines in another order": b"".join(reversed(lines(0, 14).splitlines(keepends=True))),
}


@pytest.mark.parametrize("how", OTHERS)
def test_another_stream_is_refused_before_a_row_is_mixed_in(tmp_path: Path, stdin: Any, how: str) -> None:
    intake = Intake("-", tmp_path / "run")
    stdin(lines(0, 14))
    intake.broken_off(1)
    before = intake.files()
    stdin(OTHERS[how])
    with pytest.raises(SourceError, match=r"standard input is another stream .*--restart"):
        intake.load()
    parquet = {name: data for name, data in intake.files().items() if name.endswith(".parquet")}
    assert parquet == {name: data for name, data in before.items() if name.endswith(".parquet")}
    assert not intake.layout.intake.exists()
    intake.layout.source.unlink()
    stdin(OTHERS[how])
    with pytest.raises(SourceError, match=r"standard input is another stream .*--restart"):
        intake.load()
    stdin(lines(0, 14))
    assert intake.load().rows == 14
    assert intake.ids() == [f"d{n:02}" for n in range(14)]


def test_a_stream_that_differs_only_where_nothing_was_made_of_it_goes_on(tmp_path: Path, stdin: Any) -> None:
    intake = Intake("-", tmp_path / "run")
    stdin(lines(0, 14))
    intake.broken_off(1)
    stdin(lines(0, 8) + lines(8, 20, "word"))
    assert intake.load().rows == 20


@pytest.mark.parametrize("how", [*OTHERS, "longer", "the same"])
@pytest.mark.parametrize("limit", [None, 8])
def test_standard_input_over_a_run_that_is_done(tmp_path: Path, stdin: Any, how: str, limit: int | None) -> None:
    intake = Intake("-", tmp_path / "run", limit=limit)
    stdin(lines(0, 14))
    counts = intake.load()
    intake.layout.spec.write_bytes(msgspec.json.encode(intake.spec))
    more = {"longer": lines(0, 15), "the same": lines(0, 14)}
    stdin((OTHERS | more)[how])
    if how in ("empty", "the same") or (limit and how == "longer"):
        check_stdin(intake.layout, intake.spec)
        assert intake.load() == counts
    else:
        with pytest.raises(SourceError, match="standard input is another stream"):
            check_stdin(intake.layout, intake.spec)


def test_what_gives_no_stream_is_no_other_stream(tmp_path: Path, stdin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Intake("-", tmp_path / "run")
    check_stdin(intake.layout, intake.spec)  # nothing stands yet
    stdin(lines(0, 5))
    intake.load()
    intake.layout.spec.write_bytes(msgspec.json.encode(intake.spec))
    terminal = SimpleNamespace(buffer=None, closed=False, isatty=lambda: True)
    for nothing in (None, SimpleNamespace(closed=True), terminal):
        monkeypatch.setattr(sys, "stdin", nothing)
        check_stdin(intake.layout, intake.spec)
    intake.forget_digests()
    stdin(lines(0, 5, "word"))
    check_stdin(intake.layout, intake.spec)  # 0.1.0 noted nothing


def test_another_part_of_a_file_is_another_source(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("".join(f'{{"text": "text {row:03d}"}}\n' for row in range(60)))
    Intake(tmp_path / "c.jsonl", tmp_path / "run", shard=Shard(1, 3)).broken_off(2)
    other = Intake(tmp_path / "c.jsonl", tmp_path / "run", shard=Shard(1, 2))
    with pytest.raises(SourceError, match=r"c\.jsonl is divided among shards at other bytes; .*--restart"):
        other.load()
    assert Intake(tmp_path / "c.jsonl", tmp_path / "run", shard=Shard(1, 3)).load().rows == 20
