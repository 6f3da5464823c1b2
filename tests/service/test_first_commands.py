"""The first commands that a user types: a run with few flags, what it says to type next, and its flags in a file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qdrant_edge")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, cli: Any, corpus_of: Any) -> tuple[Path, Any]:
    """A folder with a corpus, and the end of a run in it that names no run directory."""
    folder = tmp_path_factory.mktemp("first")
    corpus_of(folder / "my corpus.jsonl", ["a lease", "a batch of rows", "a segment"])
    words = ("run", "my corpus.jsonl", "--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu", "--limit", "2")
    return folder, cli(*words, cwd=folder)


def test_the_run_directory_is_beside_the_corpus_and_the_first_line_says_so(first: tuple[Path, Any]) -> None:
    folder, done = first
    assert done.err.startswith("embedfleet: without --out, the run directory is 'my corpus.embedfleet'\n")
    assert json.loads((folder / "my corpus.embedfleet" / "manifest.json").read_bytes())["counts"]["chunks"] == 2


def test_what_a_run_says_to_type_next_works(first: tuple[Path, Any], cli: Any) -> None:
    folder, done = first
    lines = [line.removeprefix("embedfleet: ") for line in done.err.splitlines()[-2:]]
    assert [line.partition(": ")[0] for line in lines] == ["next", "more"]
    commands = [shlex.split(one) for line in lines for one in line.partition(": ")[2].split(" · ")]
    assert [words[:2] for words in commands] == [["embedfleet", name] for name in ("search", "info", "export")]
    assert all(cli(*words[1:], cwd=folder).code == 0 for words in commands)


def test_words_without_quotes_are_one_query(first: tuple[Path, Any], cli: Any) -> None:
    folder, _ = first
    several, one = (
        cli("search", "my corpus.embedfleet", *words, "--json", cwd=folder).json
        for words in (("batch", "of", "rows"), ("batch of rows",))
    )
    assert several == one
    assert several[0]["id"] == "c1"


def test_the_spec_of_a_run_gives_the_same_run_elsewhere(first: tuple[Path, Any], cli: Any, tmp_path: Path) -> None:
    spec = first[0] / "my corpus.embedfleet" / "spec.json"
    words = ("run", "--config", spec, "--out", tmp_path / "again", "--devices", "cpu", "--json")
    assert cli(*words).json["committed"] == 2
    assert (tmp_path / "again" / "spec.json").read_bytes() == spec.read_bytes()


def test_a_written_file_resumes_the_run_that_it_is_of(first: tuple[Path, Any], cli: Any, tmp_path: Path) -> None:
    folder, _ = first
    words = ("run", "my corpus.jsonl", "--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu", "--limit", "2")
    (tmp_path / "run.toml").write_bytes(cli(*words, "--write-config", cwd=folder).out)
    done = cli("run", "--config", tmp_path / "run.toml", "--json").json
    assert (done["status"], [one["computed"] for one in done["passes"]]) == ("done", [0, 0])


def test_an_unknown_key_is_one_line(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[sparse]\nmodel = 'bm25'\n")
    error = cli("run", "--config", tmp_path / "run.toml", code=2).error
    assert error.endswith("run.toml, line 2: unknown key 'model' in [sparse]; did you mean 'models'?")
