"""Files that are removed, replaced or added while a run works: it does not end as done, and what it says helps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.run_directory.layout import RunLayout

pytest.importorskip("qdrant_edge")

FIRST, SLOW, BOTH = "dense-fake-16", "dense-fake-8", "ensemble-concat"
MODELS = ("--dense", "fake:16", "--dense", "fake:8,delay_ms=100", "--ensemble", "concat", "--devices", "cpu")
ROWS = 100
"""As long as they are: three segments, twenty batches."""
BAD = (10, ROWS - 1)
"""Rows after which a line is no JSON: met in the first segment, and behind the last chunk."""


def long_texts(first: str) -> list[str]:
    return [f"{first} {row} " + "of several long rows " * 5_000 for row in range(ROWS)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return long_texts("row")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    path = tmp_path_factory.mktemp("source") / "corpus.jsonl"
    with path.open("w") as out:
        for row, text in enumerate(texts):
            out.write(json.dumps({"id": f"c{row}", "text": text}) + "\n" + ("no json\n" if row in BAD else ""))
    return path


@pytest.fixture(scope="module")
def expected(texts: list[str], fake_vectors: Any) -> np.ndarray:
    """The vectors of FIRST."""
    return fake_vectors([one.strip() for one in texts], 16)


def arguments(source: Path, out: Path) -> tuple[str, ...]:
    return ("run", str(source), "--out", str(out), *MODELS)


@pytest.fixture(scope="module")
def other(cli: Any, corpus_of: Any, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """A run of another corpus, with the same models and as many rows."""
    folder = tmp_path_factory.mktemp("other")
    source = corpus_of(folder / "corpus.jsonl", long_texts("another"))
    cli(*arguments(source, folder / "run"))
    assert len(list(RunLayout(folder / "run").chunks.glob("*.parquet"))) == 3
    return RunLayout(folder / "run")


def replace(path: Path, by: Path) -> None:
    """As `mv` does."""
    copy = path.with_name("copy")
    shutil.copyfile(by, copy)
    copy.rename(path)


Harm = Callable[[RunLayout, RunLayout], Any]
HARMS: dict[str, tuple[Harm, str]] = {
    "a vector segment removed": (lambda run, _other: run.vector_segment(FIRST, 1).unlink(), "computes it"),
    "a folder of vectors emptied": (
        lambda run, _other: [one.unlink() for one in run.vector_folder(FIRST).glob("*.parquet")],
        "computes it",
    ),
    "a vector segment of another run": (
        lambda run, other: replace(run.vector_segment(FIRST, 0), other.vector_segment(FIRST, 0)),
        "computes it",
    ),
    "a segment of the ensemble removed": (
        lambda run, _other: run.vector_segment(BOTH, 0).unlink(),
        "computes it",
    ),
    "a chunk segment removed": (lambda run, _other: run.chunk_segment(0).unlink(), "reads it from the source"),
    "a chunk segment of another run": (
        lambda run, other: replace(run.chunk_segment(0), other.chunk_segment(0)),
        "reads it from the source",
    ),
    "rejected records removed": (
        lambda run, _other: run.rejected_segment(0).unlink(),
        "reads them from the source",
    ),
    "the last rejected records removed": (
        lambda run, _other: run.rejected_segment(2).unlink(),
        "reads them from the source",
    ),
    "the intake's counts removed": (lambda run, _other: run.intake.unlink(), "reads the source to its end"),
}


def while_it_works(cli: Any, args: Sequence[str], code: int, what: Callable[[], Any]) -> Any:
    """A command during which something is done, once it has ended with that exit code."""
    with ThreadPoolExecutor(1) as threads:
        command = threads.submit(cli, *args, code=code)
        what()
        return command.result()


def harmed(cli: Any, waiting: Any, source: Path, out: Path, harm: Callable[[RunLayout], Any]) -> Any:
    """The command of a run to which harm was done while it worked, once that has ended."""
    layout = RunLayout(out)
    ready = (layout.vector_segment(BOTH, 0), layout.published)

    def do() -> None:
        waiting.eventually(lambda: all(one.exists() for one in ready), 60.0, "a segment of every vector")
        harm(layout)

    command = while_it_works(cli, arguments(source, out), 1, do)
    assert not layout.manifest.exists()
    assert json.loads(layout.stats.read_bytes())["status"] == "failed"
    assert "Traceback" not in command.err
    assert " = " not in command.err, "no count that does not add up"
    return command


@pytest.mark.parametrize("name", HARMS)
def test_a_run_whose_files_do_not_add_up_is_not_done(
    name: str, cli: Any, waiting: Any, source: Path, other: RunLayout, tmp_path: Path, expected: np.ndarray
) -> None:
    harm, remedy = HARMS[name]
    out = tmp_path / "run"
    command = harmed(cli, waiting, source, out, lambda run: harm(run, other))
    (error,) = [line for line in command.err.splitlines() if "error:" in line]
    assert (
        f"the same command again, which {remedy}" in error
        or "is gone; run the same command again, which makes it" in error
    )
    again = cli(*arguments(source, out), code=3)
    assert f"{ROWS + 2} read = {ROWS} committed + 2 quarantined" in again.err
    assert cli("verify", out, "--json").json["problems"] == []
    np.testing.assert_array_equal(open_run(out).vectors(FIRST), expected)


@pytest.mark.parametrize("what", ["vectors", "chunks"])
def test_a_segment_that_no_run_wrote_is_named_and_left_alone(
    what: str, cli: Any, waiting: Any, source: Path, other: RunLayout, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    added = (RunLayout(out).vector_folder(FIRST) if what == "vectors" else RunLayout(out).chunks) / "00003.parquet"
    like = other.vector_segment(FIRST, 2) if what == "vectors" else other.chunk_segment(2)
    command = harmed(cli, waiting, source, out, lambda _run: shutil.copyfile(like, added))
    assert f"{added} was not written by this run" in command.err
    refused = cli(*arguments(source, out), code=2)
    assert f"{added} was not written by this run" in refused.err, "as long as it is there"
    added.rename(tmp_path / "mine.parquet")
    cli(*arguments(source, out), code=3)
    assert cli("verify", out, "--json").json["problems"] == []


def test_a_note_of_what_is_published_that_was_removed_is_written_again(
    cli: Any, waiting: Any, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    layout = RunLayout(out)

    def remove() -> None:
        waiting.eventually(layout.published.exists, 60.0, "a published segment")
        layout.published.unlink()

    while_it_works(cli, arguments(source, out), 3, remove)
    assert cli("verify", out, "--json").json["points"] == ROWS


def test_a_collection_that_was_removed_is_made_anew_by_the_same_command(
    cli: Any, waiting: Any, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = harmed(cli, waiting, source, out, lambda run: shutil.rmtree(run.edge))
    assert "the same command" in command.err
    cli(*arguments(source, out), code=3)
    report = cli("verify", out, "--json").json
    assert (report["problems"], report["points"]) == ([], ROWS)
