"""docs/screens.md: what the commands show on a terminal of 80 columns. `python -m embedfleet.tests.screens` writes it.

Help, search, info and verify are what the commands print; models are fake. Progress is drawn from figures that are given here,
with a clock that stands still.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from embedfleet.client.output.messages import Messages, OutputSettings
from embedfleet.client.output.progress_bars import bars
from embedfleet.client.output.progress_lines import LineView
from embedfleet.client.output.progress_rows import Stopwatch
from embedfleet.client.steps.run_table import make_table
from embedfleet.client.steps.step_summary import Stage
from embedfleet.protocol.wire.control import PassProgress, Progress
from rich.console import Console, RenderableType
from rich.spinner import Spinner

PAGE = Path(__file__).parents[1] / "docs" / "screens.md"
WIDTH = 80
NOON = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))

Run = Callable[[Sequence[str], int, Path], int]
"""Runs `embedfleet ARGS` with its output to a descriptor, in a folder. Returns the exit code."""

CORPUS = [
    {"id": "files-1", "text": "To read a file, open it and call read: the whole text is returned.", "lang": "en"},
    {"id": "files-2", "text": "A file is written by write, and closed at the end of the with block.", "lang": "en"},
    {"id": "dates-1", "text": "A date has a year, a month and a day; a time of day is a time.", "lang": "en"},
    {"id": "netz-1", "text": "Ein Socket verbindet zwei Programme über das Netz.", "lang": "de"},
]

INTRODUCTION = """# Screens

What the commands show on a terminal of 80 columns. A test compares this page with what they print; `make docs` writes it anew.
Colours are left out, and so are the digits of sizes and times that depend on the machine. The models of the examples are
`fake:8`, which needs no weights.
"""


def page(run: Run) -> str:
    """The text of the page. `run` runs a command."""
    with tempfile.TemporaryDirectory() as folder:
        sections = [INTRODUCTION, *_help(run, Path(folder)), *_progress(), *_after_a_run(run, Path(folder))]
    return "\n".join(sections)


def _help(run: Run, folder: Path) -> Iterator[str]:
    yield "## Help\n\nThe help of the other commands has the same form; [command line](cli.md) has all flags.\n"
    for words in (["--help"], ["run", "--help"], ["search", "--help"]):
        yield _shown(words, on_terminal(run, words, folder))


def _progress() -> Iterator[str]:
    yield (
        "## Progress\n\nOn a terminal, a row for each pass and one for all; wider terminals show counts and tokens too. "
        "`+`: at least so\nmuch, while the source is read or a pass has no rate yet.\n"
    )
    yield _block(_drawn(_bars_of(_state(0.0, read=False), 3.0)))
    yield _block(_drawn(_bars_of(_state(0.42), 48.0)))
    yield "Elsewhere, and with `--progress plain`, lines with the time; none is written twice with the same figures.\n"
    yield _block(_plain_lines())
    yield "At the end of a run, a table of its stages:\n"
    yield _block(_drawn(make_table(STAGES, WIDTH)))


def _after_a_run(run: Run, folder: Path) -> Iterator[str]:
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in CORPUS))
    made = ["run", "corpus.jsonl", "--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu", "--quiet"]
    quiet = on_terminal(run, made, folder)
    assert not quiet, quiet
    yield "## Search\n"
    words = ["search", "corpus.embedfleet", "read", "a", "file", "--top-k", "2"]
    yield _shown(words, on_terminal(run, words, folder))
    yield "## Tables\n"
    for words in (["info", "corpus.embedfleet"], ["verify", "corpus.embedfleet"]):
        text = on_terminal(run, words, folder).replace(f"{folder}/", "")
        yield _shown(words, SIZE.sub(_hide_digits, text))
    yield "The evaluation of a run with `--queries` and `--qrels`:\n"
    yield _block(_evaluation(run, folder))


SIZE = re.compile(r"\d+\.\d (?=KB|MB)")
SECONDS = re.compile(r"\b\d\.\d\d\b")

QUERIES = {"q1": "read a file", "q2": "a year and a month", "q3": "Programme über das Netz"}
QRELS = {"q1": "files-1", "q2": "dates-1", "q3": "netz-1"}


def _evaluation(run: Run, folder: Path) -> str:
    """The tables that a run shows after its queries."""
    queries = (json.dumps({"_id": name, "text": text}) for name, text in QUERIES.items())
    (folder / "queries.jsonl").write_text("".join(f"{line}\n" for line in queries))
    judged = "".join(f"{query}\t{chunk}\t1\n" for query, chunk in QRELS.items())
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    words = ["run", "corpus.jsonl", "--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu", "--progress", "none"]
    text = on_terminal(run, [*words, "--queries", "queries.jsonl", "--qrels", "qrels.tsv"], folder)
    tables = text[text.index("ranking ") :]
    return SECONDS.sub(_hide_digits, tables.partition("cut / tokens")[0].rstrip())


def _hide_digits(match: re.Match[str]) -> str:
    """A size of files or a time without its digits: they depend on the versions of libraries and on the machine."""
    return re.sub(r"\d", "n", match.group())


def _pass(vector: str, state: str, share: float, rate: float, left: float | None, doing: str = "") -> PassProgress:
    return PassProgress(
        vector=vector,
        model="fake:8",
        rows_done=int(share * 40_000),
        rows_committed=0,
        rows_per_second=rate,
        tokens_per_second=rate * 120,
        share_done=share,
        seconds_left=left,
        devices=("cuda:0",) if rate else (),
        in_flight=2 if state == "working" else 0,
        state=state,
        doing=doing,
    )


def _state(share: float, *, read: bool = True) -> Progress:
    """A run whose first pass has computed `share`."""
    first = _pass("dense-bge-m3", "working", share, 412.5, (1 - share) * 97)
    if share >= 1:
        first = _pass("dense-bge-m3", "done", 1.0, 412.5, None)
    if not share:
        first = _pass("dense-bge-m3", "staging", 0.0, 0.0, None, "loading the model into memory")
    reason = "waiting for dense-bge-m3" if share < 1 else ""
    second = _pass("dense-multilingual-e5-large", "waiting" if reason else "working", 0.0, 0.0, None, reason)
    terms = "waiting for the whole source, to count terms"
    bm25 = (
        _pass("sparse-bm25", "done", 1.0, 21_300.0, None)
        if read
        else _pass("sparse-bm25", "waiting", 0, 0, None, terms)
    )
    return Progress(run="r", status="running", rows=40_000, intake_done=read, rejected=0, passes=(first, second, bm25))


def _bars_of(progress: Progress, now: float) -> RenderableType:
    """The bars of a run that was started at 0 and began to compute at 8 seconds."""
    watch = Stopwatch(0.0)
    if now > 8:
        watch.rows(_state(0.01, read=False), 8.0)
    rows = watch.rows(progress, now)
    return bars([*rows, watch.total(rows, now)], "rows", "", WIDTH, Spinner("dots"))


def _plain_lines() -> str:
    elapsed = 0.0
    said = io.StringIO()
    messages = Messages(OutputSettings(), now=lambda: NOON + elapsed)
    view = LineView("rows", "", lambda text: messages.say(text, timed=True), now=lambda: elapsed)
    with contextlib.redirect_stderr(said):
        for elapsed, progress in (  # noqa: B007 - the clocks read it
            (1.0, _state(0.0, read=False)),
            (8.0, _state(0.05)),
            (13.0, _state(0.1)),
            (13.5, _state(0.1)),
            (105.0, _state(1.0)),
        ):
            view.show(progress)
    return said.getvalue()


STAGES = [
    Stage(
        "dense-bge-m3",
        {
            "rows": "40,000",
            "seconds": "97.0",
            "rate": "412.5",
            "batch": "102",
            "latency": "0.241 / 0.262",
            "memory": "3.1 GB",
            "coverage": "100.00%",
            "cut": "12 / <0.1%",
        },
    ),
    Stage("sparse-bm25", {"rows": "40,000", "seconds": "1.9", "memory": "310.4 MB", "coverage": "100.00%"}),
]


def on_terminal(run: Run, words: Sequence[str], folder: Path) -> str:
    """What a command shows on a terminal of WIDTH columns that has neither colours nor a cursor to move."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while data := os.read(ours, 1 << 16):
                shown.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = run(words, theirs, folder)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    text = b"".join(shown).decode().replace("\r\n", "\n")
    assert code == 0, text
    return "\n".join(_wrapped(line) for line in text.splitlines())


def _wrapped(line: str) -> str:
    """A line as a terminal shows it that is too narrow for it."""
    return "\n".join(line[at : at + WIDTH] for at in range(0, len(line), WIDTH))


def _drawn(what: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=WIDTH, highlight=False).print(what)
    return out.getvalue()


def _shown(words: Sequence[str], text: str) -> str:
    return _block(f"$ embedfleet {' '.join(words)}\n{text}")


def _block(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    return f"```\n{lines}\n```\n"


def _as_a_process(words: Sequence[str], output: int, folder: Path) -> int:
    command = [str(Path(sys.executable).with_name("embedfleet")), *words]
    hidden = ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS")
    kept = {name: value for name, value in os.environ.items() if name not in hidden and "EMBEDFLEET" not in name}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        env={**kept, "TERM": "dumb"},
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    PAGE.write_text(page(_as_a_process))
