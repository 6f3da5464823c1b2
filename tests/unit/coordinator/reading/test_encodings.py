"""A file that is not UTF-8 gets one message with its remedy, and damage in a few lines of one that is stays theirs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from embedfleet.coordinator.reading.readers import read_records
from embedfleet.coordinator.reading.records import Reject
from embedfleet.protocol.source.corpus import resolve
from embedfleet.protocol.source.source_file import SourceFile
from hypothesis import given
from hypothesis import strategies as st

TEXT = "".join(f'{{"id":"{n}","text":"Größe café {n}"}}\n' for n in range(20))
ARRAY = '[{"id":"1","text":"Größe"},\n {"id":"2","text":"Länge"}]'


def found(path: Path) -> list[object]:
    return [one for block in read_records(resolve(str(path))[0]) for _, one in block]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.ndjson.gz", "x.jsonl.zst"])
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32", "UTF-32"),
        ("utf-32-le", "UTF-32LE"),
        ("utf-32-be", "UTF-32BE"),
        ("latin-1", "not UTF-8"),
        ("cp1252", "not UTF-8"),
    ],
)
def test_one_message_with_the_remedy(tmp_path: Path, name: str, encoding: str, told: str) -> None:
    path = tmp_path / name
    data = (ARRAY if name == "x.json" else TEXT).encode(encoding)
    if name.endswith("zst"):
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (reject,) = found(path)
    assert isinstance(reject, Reject)
    assert reject.reason.startswith(f"{path} is {told}, but has to be UTF-8")
    source = "WINDOWS-1252" if told == "not UTF-8" else told
    assert f"iconv -f {source} -t UTF-8" in reject.reason
    assert ("Größe" in reject.reason) == (told == "not UTF-8")
    assert {"gz": "zcat", "st": "zstd -dc"}.get(name[-2:], "iconv") in reject.reason


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf_8_is_read_with_a_mark_and_without(tmp_path: Path, mark: bytes) -> None:
    for name, text in (("x.jsonl", TEXT), ("x.json", ARRAY), ("y.json", TEXT), ("x.jsonl.gz", TEXT)):
        data = mark + text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        assert not any(isinstance(one, Reject) for one in found(tmp_path / name))


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"text":"a"}'] * 30 + [b'{"text":"caf\xe9"}'] * 2,
        [b'{"text":"caf\xe9"}', b'{"text":"a"}'],
        ['{"text":"café"}'.encode()] + [b'{"text":"caf\xe9"}'] * 5,
        [b'{"text":"\xff"}'] * 4,
        [b'{"text":"a\xc3"}', b'{"text":"\xed\xa0\x80"}', b"\x00\xff", b'{"text":"\xc0\xaf"}'],
        [b"\x00\n\x00", b"\x00"],
    ],
)
def test_damage_is_the_lines_own(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert len(found(path)) >= len(lines)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=50))
def test_no_utf_8_is_taken_for_something_else(text: str) -> None:
    from embedfleet.coordinator.reading.encodings import not_utf8

    assert not_utf8(SourceFile(Path("x"), "x", "jsonl"), b'{"text":"' + text.encode() + b'"}\n') is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (gzip.compress(TEXT.encode()), "holds gzip, although its name promises text; rename it to end in .gz"),
        (bz2.compress(TEXT.encode()), "holds bzip2, although its name promises text; unpack it"),
        (lzma.compress(TEXT.encode()), "holds xz, although its name promises text; unpack it"),
        (b"PAR1\x15\x04", "holds Parquet, although its name promises text; rename it to end in .parquet"),
        (b"PK\x03\x04\x14\x00", "holds zip, although its name promises text; unpack it"),
    ],
)
def test_packed_data_under_a_plain_name(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    (reject,) = found(path)
    assert isinstance(reject, Reject)
    assert reject.reason == f"{path} {told}"


@pytest.mark.parametrize("data", [TEXT.encode("utf-16"), gzip.compress(TEXT.encode()), TEXT.encode("latin-1")])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    buffer = io.BufferedReader(io.BytesIO(data))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
    ((_, reject),) = [one for block in read_records(*resolve("-")) for one in block]
    assert isinstance(reject, Reject)
    assert reject.reason.startswith("standard input is ")
