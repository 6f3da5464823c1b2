"""The flags of the output, through the command line: what is silent, what is logged, what a program reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (INFO|ERROR) +")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, cli: Any, corpus_of: Any) -> tuple[Path, Any]:
    """A folder with a quiet run, `run`, and its log; and what the command printed."""
    folder = tmp_path_factory.mktemp("quiet")
    corpus_of(folder / "corpus.jsonl", ["a lease", "a batch of rows", "a segment"])
    words = ("run", "corpus.jsonl", "--out", "run", "--dense", "fake:8", "--devices", "cpu", "--index", "none")
    return folder, cli(*words, "-q", "--log-file", "run.log", cwd=folder)


def test_a_quiet_run_prints_nothing_and_its_log_has_everything(quiet: tuple[Path, Any]) -> None:
    folder, done = quiet
    assert (done.out, done.err) == (b"", "")
    lines = (folder / "run.log").read_text().splitlines()
    assert all(STAMP.match(line) for line in lines), lines
    texts = [STAMP.sub("", line) for line in lines]
    assert texts[0].startswith("embedfleet ")
    assert sum(text.startswith("dense-fake-8: done 3 rows") for text in texts) == 1
    assert sum(text.startswith("lease: ") for text in texts) > 0, "the events"
    assert sum("3 read = 3 committed" in text for text in texts) == 1
    assert texts[-1] == "exit code 0"


def test_an_error_is_shown_and_logged_whatever_else_is_quiet(quiet: tuple[Path, Any], cli: Any) -> None:
    folder, _ = quiet
    words = ("run", "corpus.jsonl", "--out", "run", "--dense", "fake:9", "-q", "--log-file", "wrong.log")
    error = cli(*words, cwd=folder, code=2).err
    assert error.startswith("embedfleet: error: ")
    assert error.count("\n") == 1
    first = (folder / "wrong.log").read_text().splitlines()[-2]
    assert error.removeprefix("embedfleet: error: ").strip() in first
    assert " ERROR " in first


def test_a_verbose_run_shows_its_events(quiet: tuple[Path, Any], cli: Any) -> None:
    folder, _ = quiet
    words = ("run", "corpus.jsonl", "--out", "loud", "--dense", "fake:8", "--devices", "cpu", "--index", "none", "-v")
    lines = cli(*words, cwd=folder).err.splitlines()
    assert [line for line in lines if " lease: phase before, " in line and "vector dense-fake-8" in line]


def test_progress_for_programs(quiet: tuple[Path, Any], cli: Any) -> None:
    folder, _ = quiet
    models = ("--dense", "fake:8", "--dense", "fake:16", "--devices", "cpu", "--index", "none")
    done = cli("run", "corpus.jsonl", "--out", "json", *models, "--progress", "json", cwd=folder)
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert all(set(line) in ({"time", "progress"}, {"time", "message"}) for line in lines)
    last = [line["progress"] for line in lines if "progress" in line][-1]
    assert [(one["state"], one["rows_done"]) for one in last["passes"]] == [("done", 3), ("done", 3)]
    assert (last["share_done"], last["seconds_left"], last["at_least"]) == (1.0, None, False)
    assert any("3 read = 3 committed" in line.get("message", "") for line in lines)


def test_a_quiet_export_and_a_quiet_verify(quiet: tuple[Path, Any], cli: Any) -> None:
    folder, _ = quiet
    done = cli("export", "run", "--format", "npy", "--quiet", cwd=folder)
    assert (done.out, done.err) == (b"", "")
    assert "not known" in cli("export", "run", "--format", "csv", "-q", cwd=folder, code=2).error
    done = cli("verify", "run", "-q", cwd=folder)
    assert (done.out, done.err) == (b"", "")
    path = folder / "run" / "manifest.json"
    manifest = path.read_bytes()
    path.unlink()
    try:
        lines = cli("verify", "run", "-q", cwd=folder, code=1).out.decode().splitlines()
    finally:
        path.write_bytes(manifest)
    assert lines
    assert all(line.startswith(("problem: ", "interrupted: ")) for line in lines)


def test_a_log_file_in_no_folder_is_refused_before_anything_begins(quiet: tuple[Path, Any], cli: Any) -> None:
    folder, _ = quiet
    error = cli(
        "run", "corpus.jsonl", "--out", "new", "--dense", "fake:8", "--log-file", "no/x.log", cwd=folder, code=2
    )
    assert error.error.endswith("--log-file no/x.log: No such file or directory; name a file in a folder that is there")
    assert not (folder / "new").exists()
