"""What is read of a folder, and the one line about what is not."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.source.corpus import is_gone, plain_bytes, resolve, survey
from embedfleet.protocol.source.folder import LeftOut

from tests.run_files import RunFiles

RECORDS = b'{"id":"1","text":"a"}\n{"id":"2","text":"b"}\n'


def put(path: Path, data: bytes = RECORDS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(folder: Path, **how: Any) -> tuple[list[str], str]:
    found = survey(str(folder), **how)
    return [file.name for file in found.files], found.left_out.line()


def test_what_is_not_read_is_counted_by_kind_and_named(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    put(root / "a.jsonl")
    for name in ("t.tsv", "sub/u.TSV", "v.tsv", "x.csv.gz", "README", ".DS_Store", ".git/config", "p.parquet.gz"):
        put(root / name)
    os.mkfifo(root / "pipe.jsonl")
    (root / "nowhere.jsonl").symlink_to("gone")
    (root / "self").symlink_to("self")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s.sock"))
        assert names(root) == (
            ["a.jsonl"],
            "3 .tsv (t.tsv, v.tsv, …); 2 hidden (.DS_Store, .git); 2 links that lead nowhere (nowhere.jsonl, self); "
            "2 pipes, sockets or devices (pipe.jsonl, s.sock); 1 .csv.gz (x.csv.gz); 1 .parquet.gz (p.parquet.gz); "
            "1 without extension (README)",
        )


def test_a_line_stays_a_line(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl")
    put(tmp_path / "\x1b[2J\n.txt")
    for number in range(20):
        put(tmp_path / f"x.t{number:02}")
    line = names(tmp_path)[1]
    assert line.startswith("1 .t00 (x.t00); ")
    assert line.endswith("; 13 of other kinds")
    assert line.isprintable()
    left_out = LeftOut()
    left_out.add(("x", "x"), "\x1b[2J\n")
    assert left_out.line() == r"1 x (\x1b[2J\n)"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    put(root / "own" / "a.jsonl")
    put(elsewhere / "deep" / "b.jsonl")
    (root / "more").symlink_to("../elsewhere")
    (root / "again").symlink_to(elsewhere)
    (root / "also-own").symlink_to("own")
    (elsewhere / "back").symlink_to(root)
    (elsewhere / "deep" / "up").symlink_to("..")
    (root / "own" / "here").symlink_to(".")
    found, line = names(root)
    assert found == ["again/deep/b.jsonl", "own/a.jsonl"]
    assert line == ("3 links to what is read anyway (also-own, more, …); 2 links in a circle (own/here, again/deep/up)")


def test_a_link_to_a_folder_above_is_a_circle(tmp_path: Path) -> None:
    """What lies beside the source is none of it."""
    put(tmp_path / "beside.jsonl")
    put(tmp_path / "corpus" / "a.jsonl")
    (tmp_path / "corpus" / "up").symlink_to("..")
    assert names(tmp_path / "corpus") == (["a.jsonl"], "1 link in a circle (up)")


def test_a_file_under_two_names_is_read_under_its_own(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    put(root / "b.jsonl")
    (root / "a.jsonl").symlink_to("b.jsonl")
    outside = put(tmp_path / "blobs" / "1234")
    (root / "x.jsonl").symlink_to(outside)
    (root / "y.jsonl").symlink_to(outside)
    os.link(root / "b.jsonl", root / "c.jsonl")  # a file of its own, as far as anyone can tell
    found, line = names(root)
    assert found == ["b.jsonl", "c.jsonl", "x.jsonl"]
    assert line == "2 links to what is read anyway (a.jsonl, y.jsonl)"


def test_the_run_directory_is_not_the_sources(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl")
    put(tmp_path / "run" / "chunks" / "x.jsonl")
    put(tmp_path / ".hidden-run" / "x.jsonl")
    (tmp_path / "to-run").symlink_to("run")
    (tmp_path / "into-run").symlink_to("run/chunks")
    assert names(tmp_path, exclude=tmp_path / "run") == (["a.jsonl"], "1 hidden (.hidden-run)")
    found, line = names(tmp_path, exclude=tmp_path / ".hidden-run")
    assert (found, line.count("hidden")) == (["a.jsonl", "run/chunks/x.jsonl"], 0)


def test_directories_of_other_runs_are_not_the_sources(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    put(root / "a.jsonl")
    RunFiles(root / "run1").write()
    RunFiles(root / "sub" / "run2").write()
    RunFiles(tmp_path / "elsewhere").write()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    put(root / "config" / "spec.json", b'{"openapi":"3.1"}')
    put(root / "config" / "b.jsonl")
    assert names(root) == (
        ["a.jsonl", "config/b.jsonl"],
        "3 run directories (run1, sub/run2, …); 1 .json without a text field in its first record (config/spec.json)",
    )
    assert names(root, exclude=root / "run1")[1].startswith("2 run directories (sub/run2, linked); ")
    assert plain_bytes(str(root), 1 << 20) == 2 * len(RECORDS)


@pytest.mark.parametrize("spec", [None, b"{", b'{"openapi":"3.1"}'])
def test_the_directory_of_a_run_whose_spec_is_lost_or_damaged_is_known_too(tmp_path: Path, spec: bytes | None) -> None:
    root = tmp_path / "corpus"
    put(root / "a.jsonl")
    layout = RunFiles(root / "run1").write().layout
    layout.spec.unlink() if spec is None else layout.spec.write_bytes(spec)
    assert names(root) == (["a.jsonl"], "1 run directory (run1)")


def test_a_run_directory_is_no_source(tmp_path: Path) -> None:
    RunFiles(tmp_path / "corpus" / "run").write()
    put(tmp_path / "corpus" / "run" / "mine.jsonl")
    with pytest.raises(SourceError, match=r"run: is the directory of a run, not a corpus; give the corpus of that run"):
        survey(str(tmp_path / "corpus" / "run"), tmp_path / "out")
    assert [file.name for file in resolve(str(tmp_path / "corpus" / "run" / "mine.jsonl"))] == ["mine.jsonl"]
    with pytest.raises(SourceError, match=r"the folder holds no chunks; .* It has 1 run directory \(run\)"):
        survey(str(tmp_path / "corpus"), tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl")
    (tmp_path / "lost+found").mkdir(mode=0)
    assert names(tmp_path) == (["a.jsonl"], "1 folder that may not be read (lost+found)")


def test_a_folder_that_the_system_does_not_give_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.jsonl")
    put(tmp_path / "lost+found" / "b.jsonl")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(tmp_path) == (["a.jsonl"], "1 folder that may not be read (lost+found)")
    with pytest.raises(SourceError, match=r"lost\+found: cannot be read \(Permission denied\)"):
        survey(str(tmp_path / "lost+found"))


PRETTY = json.dumps({"id": "1", "text": "a"}, indent=2).encode()
READ = {
    "lines": RECORDS,
    "a byte order mark": b"\xef\xbb\xbf" + RECORDS,
    "an array": b'[\n {"id": "1", "content": "a"}]',
    "one record": b'{"id":"1","text":"a"}',
    "objects over several lines": PRETTY + b"\n" + PRETTY,
    "LangChain's": b'{"lc":1,"kwargs":{"page_content":"a","type":"Document"}}',
    "Elasticsearch's": b'{"index":{"_id":"1"}}\n{"content":"a"}\n',
    "a field of the flag": b'[{"body":{"plain":"a"}}]',
}
NOT_READ = {
    "settings": b'{"name":"x","version":1}',
    "a tokenizer's": b'{"version":"1.0","added_tokens":[{"id":0,"content":"<s>"}],"model":{"text":1}}',
    "settings over several lines": json.dumps({"model": {"content": "x"}, "b": [1]}, indent=2).encode(),
    "labels": b'[{"id":0,"name":"cat"},{"id":1,"name":"dog"}]',
    "words": b'["text", "content"]',
    "a string": b'"text"',
    "an empty array": b"[]",
}


@pytest.mark.parametrize("what", [*READ, *NOT_READ])
@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".json.zst"])
def test_which_json_of_a_folder_is_read(tmp_path: Path, what: str, suffix: str) -> None:
    put(tmp_path / "a.jsonl")
    data = (READ | NOT_READ)[what]
    path = tmp_path / f"x{suffix}"
    if suffix.endswith("zst"):
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        put(path, gzip.compress(data) if suffix.endswith("gz") else data)
    found, line = names(tmp_path, text_field="body.plain")
    if what in READ:
        assert (found, line) == (["a.jsonl", path.name], "")
    else:
        assert (found, line) == (["a.jsonl"], f"1 .json without a text field in its first record ({path.name})")


def test_a_json_that_cannot_be_told_is_left_to_the_intake(tmp_path: Path) -> None:
    put(tmp_path / "x.json.gz", b"not packed")
    put(tmp_path / "empty.json", b"")
    assert names(tmp_path) == (["x.json.gz"], "1 empty file (empty.json)")


def test_chunks_files_are_read_whatever_they_hold_and_have_a_collection_packed_too(tmp_path: Path) -> None:
    put(tmp_path / "wiki" / "x_chunks.json", b'{"name":1}')
    put(tmp_path / "wiki" / "y_chunks.json.gz", gzip.compress(b"[]"))
    assert [(file.name, file.collection) for file in resolve(str(tmp_path))] == [
        ("wiki/x_chunks.json", "wiki"),
        ("wiki/y_chunks.json.gz", "wiki"),
    ]


def test_a_folder_of_other_files_says_what_it_has(tmp_path: Path) -> None:
    put(tmp_path / "a.pdf")
    put(tmp_path / "settings.json", b"{}")
    with pytest.raises(
        SourceError, match=r"holds no chunks; .* It has 1 \.json without .*settings\.json\); 1 \.pdf \("
    ):
        resolve(str(tmp_path))


def test_is_gone(tmp_path: Path) -> None:
    assert is_gone(str(tmp_path / "x"))
    assert is_gone(str(tmp_path))
    put(tmp_path / "a.jsonl")
    assert not is_gone(str(tmp_path))
    assert not is_gone(str(tmp_path / "a.jsonl"))
    assert is_gone(str(tmp_path / "a.jsonl" / "b"))


@pytest.mark.parametrize("source", ["ftp://b/k", "hdfs://b", "ABFS://x/y", "ftp:/b/k", "hf+a://x"])
def test_an_address_of_another_kind_is_no_source(source: str) -> None:
    with pytest.raises(SourceError, match=r"^source .*://.*: only local paths are read and written"):
        resolve(source)
    with pytest.raises(SourceError, match=r"^source file:///a/b: give the path alone: /a/b$"):
        resolve("file:///a/b")
