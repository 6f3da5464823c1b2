from __future__ import annotations

import json
from pathlib import Path

import pytest

LONG = "It takes the values one by one and never keeps more than it was told to keep in memory at a time. " * 3


@pytest.fixture
def library(tmp_path) -> Path:
    root = tmp_path / "lib"
    (root / "pack" / "test").mkdir(parents=True)
    (root / "pack" / "__init__.py").write_text(f'"""Tools that pack and unpack many values.\n\n{LONG}"""\n')
    (root / "pack" / "box.py").write_text(
        f'''
class Box(dict):
    """Short, but long enough to be kept as a chunk."""

    def fill(self, values, *, most=3):
        """Fill the box with as many values as fit.

        {LONG} (box)
        """

try:
    import fast
except ImportError:
    def fill(values):
        """Short, but long enough to be kept as a chunk."""
'''
    )
    (root / "pack" / "test" / "test_box.py").write_text('"""A test is not documentation, however long it is."""')
    (root / "pack" / "template.py").write_text("not {{ python }}")
    return root


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_small_library(stdlib_corpus, library, tmp_path, capsys):
    out = tmp_path / "out"
    stdlib_corpus.main([str(out), "--library", str(library)])
    assert "3 chunks and 2 queries" in capsys.readouterr().out
    chunks = {one["_id"]: one for one in read(out / "corpus.jsonl")}
    assert list(chunks) == ["pack", "pack.box.Box", "pack.box.Box.fill"]
    fill = chunks["pack.box.Box.fill"]
    assert fill["text"].startswith("pack.box.Box.fill(self, values, *, most=3)\n\nIt takes")
    assert fill["metadata"] == {"module": "pack.box", "kind": "function", "name": "pack.box.Box.fill", "line": 5}
    queries = {one["_id"]: one["text"] for one in read(out / "queries.jsonl")}
    assert queries["q:pack.box.Box.fill"] == "Fill the box with as many values as fit."
    judged = [line.split("\t") for line in (out / "qrels.tsv").read_text().splitlines()]
    assert judged[0] == ["query-id", "corpus-id", "score"]
    assert sorted(judged[1:]) == [["q:pack", "pack", "1"], ["q:pack.box.Box.fill", "pack.box.Box.fill", "1"]]


def test_this_pythons_library(stdlib_corpus, tmp_path):
    stdlib_corpus.main([str(tmp_path)])
    chunks, queries = read(tmp_path / "corpus.jsonl"), read(tmp_path / "queries.jsonl")
    assert len(chunks) >= 1_500
    assert len(queries) >= 300
    texts = {one["_id"]: " ".join(one["text"].split()).lower() for one in chunks}
    assert len(texts) == len(chunks) == len(set(texts.values()))
    for query in queries:
        assert query["_id"].removeprefix("q:") in texts
    everything = "\n".join(texts.values())
    assert not [query for query in queries if query["text"].lower() in everything]
