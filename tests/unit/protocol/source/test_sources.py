"""Which files a source has, what is wrong with it, and the records that come out of each format."""

from __future__ import annotations

import errno
import gzip
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.reading import readers
from embedfleet.coordinator.reading.readers import read_records
from embedfleet.coordinator.reading.records import Item, Noted, Reject
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.source import corpus
from embedfleet.protocol.source.check import FileStamp, fingerprint, first_difference, shards_difference
from embedfleet.protocol.source.corpus import resolve
from embedfleet.protocol.source.intake_notes import NOT_FINITE
from embedfleet.protocol.source.parts import part_of
from embedfleet.protocol.source.source_file import SourceFile
from embedfleet.protocol.spec.shard import Shard


def put(path: Path, data: bytes = b"{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_zst(path: Path, data: bytes) -> Path:
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(data)
    return path


def records(path: Path, skip: int = 0) -> list[tuple[int, Item]]:
    (file,) = resolve(str(path))
    return [one for block in read_records(file, skip) for one in block]


def test_folder_is_read_recursively_by_relative_path(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.ndjson.gz", "a/B.JSONL", "a.jsonl.zst", "c/d/x_chunks.json", "c/t.parquet"):
        put(tmp_path / name)
    for name in ("note.txt", "plain.json", "x.parquet.gz", ".hidden.jsonl", ".git/y.jsonl", "run/chunks/0.parquet"):
        put(tmp_path / name)
    files = resolve(str(tmp_path), exclude=tmp_path / "run")
    assert [(file.name, file.format, file.compression, file.collection) for file in files] == [
        ("a.jsonl.zst", "jsonl", "zstd", None),
        ("a/B.JSONL", "jsonl", None, None),
        ("a/z.ndjson.gz", "jsonl", "gzip", None),
        ("b.jsonl", "jsonl", None, None),
        ("c/d/x_chunks.json", "json", None, "d"),
        ("c/t.parquet", "parquet", None, None),
    ]
    stat = (tmp_path / "b.jsonl").stat()
    assert fingerprint(files)[3] == FileStamp("b.jsonl", 3, stat.st_mtime_ns)


def test_single_files(tmp_path: Path) -> None:
    (file,) = resolve(str(put(tmp_path / "any.json", b"[]")))
    assert (file.name, file.format, file.collection) == ("any.json", "json", None)
    (file,) = resolve(str(put(tmp_path / "wiki" / "en_chunks.json", b"[]")))
    assert (file.name, file.format, file.collection) == ("en_chunks.json", "json", "wiki")
    assert resolve("-") == [SourceFile(None, "stdin", "jsonl")]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.jsonl"
    with open(path, "wb") as handle:
        handle.write(b'{"a":1}')
    (file,) = resolve(str(tmp_path))
    assert file.name == "\ufffd.jsonl"
    assert list(read_records(file)) == [[], [(1, {"a": 1})]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "{p}: no such file or folder; give a file, a folder, or - for standard input"),
        (
            lambda p: put(p / "x.txt"),
            "{p}: the folder holds no chunks; looked for *.jsonl, *.ndjson, *.json with records (also .gz, .zst) and "
            "*.parquet in it and below. It has 1 .txt (x.txt)",
        ),
        (
            lambda p: put(p, b""),
            "{p}: .src is not supported; give .jsonl, .ndjson or .json (also .gz, .zst), or .parquet",
        ),
        (lambda p: put(p / "x.jsonl", b""), "{p}: holds only empty files (1); give a source with at least one record"),
        (lambda p: os.mkfifo(p), "{p}: neither a file nor a folder; to read a pipe, give - as the source"),
    ],
)
def test_a_source_that_cannot_be_used(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "the.src"
    make(path)
    with pytest.raises(SourceError) as caught:
        resolve(str(path))
    assert str(caught.value).startswith(message.format(p=path))


def test_the_run_directory_is_no_source(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match="cannot be the run directory too; give another output folder"):
        resolve(str(tmp_path), exclude=tmp_path)


def test_an_empty_file_and_an_unreadable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.jsonl", b"")
    with pytest.raises(SourceError, match=r"a\.jsonl: is an empty file; give a source with at least one record"):
        resolve(str(path))
    put(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SourceError, match=r"a\.jsonl: cannot be read \(permission denied\); check its permissions"):
        resolve(str(path))


def test_first_difference() -> None:
    a, b = FileStamp("a", 1, 10), FileStamp("b", 2, 20)
    assert first_difference([a, b], [a, b]) is None
    assert first_difference([a, b], [a]) == "b is gone"
    assert first_difference([b], [a, b]) == "a is new"
    assert first_difference([a, b], [a, FileStamp("b", 3, 20)]) == "b had 2 bytes and has 3"
    assert first_difference([a, b], [FileStamp("a", 1, 11), b]) is None, "its content decides"
    assert first_difference([a, b], [b, a]) == "the order of the files"
    part = FileStamp("b", 2, 20, start=1)
    assert first_difference([a, b], [a, part]) == "b is divided among shards at other bytes"
    assert first_difference([a, part], [a, FileStamp("b", 2, 21, end=2, start=1)]) is not None


def test_what_a_store_says_of_a_file_decides_between_shards() -> None:
    a, b = FileStamp("a", 1, 10, "one"), FileStamp("b", 2, 20)
    assert shards_difference([a, b], [a, b]) is None
    assert shards_difference([a, b], [FileStamp("a", 1, 11, "two"), b]) == "a has other content"
    assert shards_difference([a, b], [FileStamp("a", 1, 11), FileStamp("b", 2, 21, "new")]) is None, "nothing is known"
    assert shards_difference([a, b], [a]) == "b is gone"
    assert first_difference([a], [FileStamp("a", 1, 11, "two")]) is None, "within a shard its content decides"


def test_a_stamp_of_a_part_has_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' * 10)
    [file] = resolve(str(tmp_path))
    [whole] = fingerprint([file])
    assert set(msgspec.json.decode(msgspec.json.encode(whole))) == {"path", "size", "mtime_ns"}
    stamps = [fingerprint(part_of([file], Shard(index, 3)))[0] for index in range(3)]
    assert [(one.size, one.start, one.end) for one in stamps] == [(160, 0, 53), (160, 53, 106), (160, 106, 160)]


JSON_LINES = b'\xef\xbb\xbf{"a":1}\r\n\n[1]\n{"a":NaN}\n{"a":"\xff"}\n{"a":"\x00"}\n{"a":2}\n{"a":'

REASONS = [
    (1, {"a": 1}),
    (3, Reject("record is an array, not an object", "[1]")),
    (4, Noted({"a": None}, (NOT_FINITE,))),
    (5, Reject("invalid UTF-8 at byte 6", '{"a":"\ufffd"}')),
    (6, Reject("not JSON: unexpected control character in string: line 1 column 7 (char 6)", '{"a":"\x00"}')),
    (7, {"a": 2}),
    (8, Reject("not JSON: unexpected end of data: line 1 column 6 (char 5)", '{"a":')),
]


def without_orjson_text(found: list[tuple[int, Item]]) -> list[Any]:
    """orjson words its reasons anew now and then; that there is one is what counts."""
    return [
        (number, (one.reason.split(":")[0], one.excerpt) if isinstance(one, Reject) else one) for number, one in found
    ]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.ndjson.zst"])
@pytest.mark.parametrize("skip", [0, 1, 2, 3, 7, 8, 9])
def test_json_lines(tmp_path: Path, name: str, skip: int) -> None:
    path = tmp_path / name
    if name.endswith("gz"):
        put(path, gzip.compress(JSON_LINES[:20]) + gzip.compress(JSON_LINES[20:]))
    elif name.endswith("zst"):
        put_zst(path, JSON_LINES)
    else:
        put(path, JSON_LINES)
    expected = without_orjson_text([one for one in REASONS if one[0] > skip])
    assert without_orjson_text(records(path, skip)) == expected


def test_nesting_bombs_and_oversized_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "x.jsonl", b"[" * 100_000 + b"\n" + b'{"a":' * 100_000 + b"\n" + b'{"a":1}\n')
    first, second, third = records(path)
    assert isinstance(first[1], Reject)
    assert first[1].reason.startswith("not JSON: ")
    assert first[1].excerpt == "[" * 200
    assert isinstance(second[1], Reject)
    assert third == (3, {"a": 1})
    reader = readers.LineReader
    monkeypatch.setattr(readers, "LineReader", lambda read, **given: reader(read, max_line_bytes=1000, **given))
    reject = records(path)[0][1]
    assert isinstance(reject, Reject)
    assert reject.reason == "record of 100000 bytes is over the limit of 33554432"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a":1}\n{"a":2}\n')))
    assert list(read_records(*resolve("-"), skip=1)) == [[(2, {"a": 2})]]


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("how", ["cut", "corrupt"])
def test_damaged_compression_keeps_what_stood_before(tmp_path: Path, kind: str, how: str) -> None:
    rows = 100_000
    lines = b"".join(b'{"n":%d,"h":"%016x"}\n' % (n, n * 0x9E3779B97F4A7C15 % 2**64) for n in range(rows))
    path = tmp_path / f"x.jsonl.{kind}"
    data = gzip.compress(lines, 1) if kind == "gz" else put_zst(path, lines).read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] if how == "cut" else data[:half] + b"\xff" * half)
    found = records(path)
    *whole, (number, reject) = found
    assert isinstance(reject, Reject)
    assert reject.reason.startswith(f"{path} is damaged or cannot be read from here on (")
    # What was unpacked from the damaged bytes themselves may be anything, but is numbered and in order.
    intact = [one for one in whole if not isinstance(one[1], Reject)]
    assert intact == [(n + 1, {"n": n, "h": f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}"}) for n in range(len(intact))]
    assert rows * 0.4 < len(intact) < rows * 0.55
    assert [one for one, _ in found] == sorted({one for one, _ in found})
    if how == "cut":
        assert number == len(intact) + 1
    assert records(path, number - 1) == [found[-1]]
    assert records(path, number) == []


def test_json_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "ROWS", 2)
    path = put(tmp_path / "x.json", b'\xef\xbb\xbf[{"a":1},2,{"a":3},null,{"a":5}]')
    expected = [
        (1, {"a": 1}),
        (2, Reject("record is an integer, not an object", "2")),
        (3, {"a": 3}),
        (4, Reject("record is null, not an object", "null")),
        (5, {"a": 5}),
    ]
    for skip in range(7):
        assert records(path, skip) == expected[skip:]


@pytest.mark.parametrize(
    ("data", "whole", "reason"),
    [
        (b'[{"a":1},', 1, "the array does not end"),
        (b'[{"a":1},{"a":"x},{"a":"y"}]', 1, "it ends in the middle of a value"),
        (b'[{"a":1},{"a":[1},{"a":2}]', 1, "'}' closes a bracket of the other kind"),
        (b'[{"a":1},]', 1, "a value is missing"),
        (b'[{"a":1},x,{"a":2}]', 1, "a value is not JSON"),
        (b'[{"a":1}] {"a":2}', 1, "something else follows the array"),
        (b'[{"a":1},{"a":2}', 1, "the array does not end"),
        (b"[" * 33, 0, "it ends in the middle of a value"),
        (b'{\n"a":1}\n{\n"a":2}}', 2, "'}' closes no open bracket"),
        (b'{\n"a":1}\nx', 1, "something else follows the last object"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 7, 1 << 18])
def test_what_stood_before_the_damage_of_an_array_is_given(
    tmp_path: Path, data: bytes, whole: int, reason: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "VALUES_BLOCK", block)
    path = put(tmp_path / "x.json", data)
    *before, (number, reject) = records(path)
    assert before == [(n + 1, {"a": n + 1}) for n in range(whole)]
    assert number == whole + 1
    assert isinstance(reject, Reject)
    assert reject.reason.startswith(f"{path} is damaged or cannot be read from here on ({reason}")
    assert records(path, whole) == [(number, reject)]
    assert records(path, whole + 1) == []


def table(rows: int) -> pa.Table:
    return pa.table({"id": list(range(rows)), "text": [f"text {n}" for n in range(rows)]})


@pytest.mark.parametrize("skip", [0, 1, 4, 5, 6, 10, 22, 23, 24])
def test_parquet(tmp_path: Path, skip: int) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(table(23), path, row_group_size=5)
    assert records(path, skip) == [(n + 1, {"id": n, "text": f"text {n}"}) for n in range(skip, 23)]


def test_parquet_values_that_python_cannot_hold(tmp_path: Path) -> None:
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb"))
    days = pa.array([0, 0, 2**40], pa.timestamp("s"))
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": texts, "day": days}), path)
    first, second, third = records(path)
    assert first == (1, {"text": "a", "day": "1970-01-01T00:00:00"})
    assert second == (2, Reject("invalid UTF-8 at byte 0", "\ufffd"))
    assert third == (3, {"text": "b", "day": "36812-02-20T00:36:16"})


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(table(20), path, row_group_size=5, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(2)
    start = group.column(0).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    found = records(path)
    assert [number for number, _ in found] == list(range(1, 12))
    assert found[9] == (10, {"id": 9, "text": "text 9"})
    reject = found[10][1]
    assert isinstance(reject, Reject)
    assert reject.reason.startswith(f"{path} is damaged or cannot be read from here on (")
    assert [records(path, skip) for skip in (9, 10, 11)] == [found[9:], found[10:], []]

    path.write_bytes(data[:-20])
    ((number, reject),) = records(path)
    assert number == 1
    assert isinstance(reject, Reject)
    assert str(path) in reject.reason


def test_a_file_that_vanished_is_a_reject(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.parquet"):
        path = put(tmp_path / name, orjson.dumps([{}]))
        (file,) = resolve(str(path))
        path.unlink()
        (((number, reject),),) = list(read_records(file))
        assert number == 1
        assert isinstance(reject, Reject)
        assert str(path) in reject.reason


def test_bytes_that_the_system_does_not_give_end_the_intake(tmp_path, monkeypatch):
    """They may be there the next time: the rest of the source is not to be left out for good."""
    path = put(tmp_path / "a.jsonl", b'{"text": "a"}\n' * 100)
    (file,) = resolve(str(path))

    class Stale(io.RawIOBase):
        def read(self, _most=-1):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "open", lambda *_, **__: Stale())
    with pytest.raises(SourceError, match=r"a\.jsonl cannot be read on: Stale file handle; the same command goes on"):
        list(read_records(file))


def test_a_folder_of_many_files_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is not held up by it."""
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text("x" * 10)
    assert corpus.plain_bytes(str(tmp_path), 1_000) == 40
    monkeypatch.setattr(corpus, "MAX_FILES_STATTED", 3)
    assert corpus.plain_bytes(str(tmp_path), 1_000) is None
