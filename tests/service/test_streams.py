"""Standard streams that are closed, full, or whose reader has gone: every command ends as it would have, with no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..forked_commands import ForkedCommands
from .conftest import COMMAND, LIMIT

ROWS = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "corpus.jsonl"
    steering = "\x1b]0;owned\x07\x1b[31m"
    lines = [{"id": f"{steering}c{row}", "text": f"words of row {row}"} for row in range(ROWS)]
    lines += [{"id": "bad", "text": 7, "\x1b[2Jfield": 1}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def done_run(corpus: Path, cli: Callable[..., Any]) -> Path:
    out = corpus.with_name("done")
    cli("run", corpus, "--out", out, "--dense", "fake:8", "--sparse", "bm25", code=3)
    return out


@pytest.fixture
def gone() -> Iterator[int]:
    """A pipe that nobody reads from any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def commands(run: Path, corpus: Path, out: Path) -> dict[str, tuple[list[str], int]]:
    """Arguments and exit code, by what they do."""
    return {
        "run": (["run", str(corpus), "--out", str(out), "--dense", "fake:8", "--index", "none", "--json"], 3),
        "search": (["search", str(run), "words of row 7"], 0),
        "verify": (["verify", str(run)], 0),
        "info": (["info", str(run), "--json"], 0),
        "export": (["export", str(run), "--format", "npy", "--json"], 0),
        "help": (["run", "--help"], 0),
        "wrong": (["run", str(corpus), "--dtype", "float8"], 2),
        "error": (["info", str(out / "nothing")], 2),
    }


NAMES = list(commands(Path(), Path(), Path()))


@dataclass
class Ended:
    """What a command came to, and what it wrote into the streams that were not given."""

    code: int
    out: bytes
    err: bytes


@pytest.fixture
def call(forked: ForkedCommands) -> Callable[..., Ended]:
    """Runs `embedfleet ARGUMENTS` with these streams."""

    def run(arguments: list[str], stdout: int | None = None, stderr: int | None = None) -> Ended:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:
            files = (
                nothing.fileno(),
                out.fileno() if stdout is None else stdout,
                err.fileno() if stderr is None else stderr,
            )
            code = forked.call(arguments, files, None, LIMIT)
            out.seek(0)
            err.seek(0)
            return Ended(code, out.read(), err.read())

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_that_has_gone_changes_no_exit_code(
    call: Callable[..., Ended], done_run: Path, corpus: Path, tmp_path: Path, gone: int, name: str
) -> None:
    arguments, code = commands(done_run, corpus, tmp_path / "out")[name]
    assert call(arguments, stdout=gone, stderr=gone).code == code
    with_errors = call(arguments, stdout=gone)
    assert with_errors.code == code
    assert b"Traceback" not in with_errors.err
    assert b"Exception ignored" not in with_errors.err


@pytest.mark.parametrize("name", NAMES)
def test_messages_that_cannot_be_written_are_dropped(
    call: Callable[..., Ended], done_run: Path, corpus: Path, tmp_path: Path, full: int, name: str
) -> None:
    arguments, code = commands(done_run, corpus, tmp_path / "out")[name]
    done = call(arguments, stderr=full)
    assert done.code == code
    if "--json" in arguments:
        assert isinstance(json.loads(done.out), (dict, list))


@pytest.mark.parametrize("name", ["run", "search", "info", "export", "help"])
def test_data_that_cannot_be_written_is_an_error(
    call: Callable[..., Ended], done_run: Path, corpus: Path, tmp_path: Path, full: int, name: str
) -> None:
    arguments, _ = commands(done_run, corpus, tmp_path / "out")[name]
    done = call(arguments, stdout=full)
    assert done.code == 1
    last = done.err.decode().splitlines()[-1]
    assert last.startswith("embedfleet: error: standard output cannot be written (No space left on device)")
    assert b"Traceback" not in done.err


@pytest.mark.parametrize("name", ["run", "search", "info"])
def test_closed_streams_change_no_exit_code(done_run: Path, corpus: Path, tmp_path: Path, name: str) -> None:
    arguments, code = commands(done_run, corpus, tmp_path / "out")[name]
    shell = 'exec "$0" "$@" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", shell, COMMAND, *arguments], timeout=120, check=False).returncode == code
    if name == "run":
        assert (tmp_path / "out" / "manifest.json").exists()


def test_nothing_of_a_corpus_steers_the_terminal(done_run: Path, corpus: Path, cli: Callable[..., Any]) -> None:
    hits = cli("search", done_run, "words of row 7", "--top-k", "3")
    assert "\\x1b]0;owned\\x07\\x1b[31mc7" in hits.out.decode()
    wrong = cli("run", corpus, "--out", corpus.with_name("wrong"), "--dense", "fake:8", "--text-field", "no", code=2)
    shown = [hits.out.decode(), hits.err, wrong.err, cli("verify", done_run).out.decode()]
    assert not [text for text in shown if "\x1b" in text or "\x07" in text]
