"""Finished queries and scores outlive a command that asks for others and cannot have them."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from ..run_copies import copied

pytest.importorskip("qdrant_edge")

KEPT = ("queries/vectors/*/*.parquet", "rerank/run/vectors/*/*.parquet", "rerank/*", "export/*")


class Run:
    """One run directory and the commands on it."""

    def __init__(self, cli: Any, folder: Path) -> None:
        self.cli, self.folder, self.out = cli, folder, folder / "run"

    def make(self) -> None:
        self.folder.mkdir()
        texts = (f"a text about number {row}" for row in range(40))
        lines = (json.dumps({"id": f"c{row}", "text": text}) for row, text in enumerate(texts))
        (self.folder / "corpus.jsonl").write_text("\n".join(lines))
        self.ask("queries.jsonl", "number 7", "number 9")
        (self.folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tc7\t1\n")

    def ask(self, name: str, *queries: str) -> None:
        lines = (json.dumps({"_id": f"q{place}", "text": text}) for place, text in enumerate(queries))
        (self.folder / name).write_text("\n".join(lines))

    def args(self, queries: str, rerank: str, *more: str) -> tuple[str | Path, ...]:
        asked = ("--queries", self.folder / queries, "--rerank", rerank, "--candidates", "5", "--top-k", "2")
        source = self.folder / "corpus.jsonl"
        return ("run", source, "--out", self.out, "--dense", "fake:8", "--devices", "cpu", *asked, *more)

    def __call__(self, queries: str = "queries.jsonl", rerank: str = "fake:8", *more: str, code: int = 0) -> Any:
        return self.cli(*self.args(queries, rerank, *more), code=code)

    def stamps(self) -> dict[str, int]:
        paths = (path for pattern in KEPT for path in self.out.glob(pattern) if path.is_file())
        return {str(path): path.stat().st_ino for path in paths}

    def left(self) -> list[str]:
        return [path.name for folder in (self.out, self.out / "rerank") for path in folder.glob(".*.*")]


@pytest.fixture(scope="module")
def kept(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the folder `files`, where it was made: `finished`, a copy of it with a run whose queries were ranked."""
    root = tmp_path_factory.mktemp("kept")
    run = Run(cli, root / "files")
    run.make()
    run()
    copied(run.folder, root / "finished")
    return root


@pytest.fixture
def run(cli: Any, kept: Path) -> Run:
    """The finished run, in the place where it was made."""
    shutil.rmtree(kept / "files")
    return Run(cli, copied(kept / "finished", kept / "files"))


def test_a_reranker_that_cannot_be_had_leaves_the_scores(run: Run) -> None:
    before = run.stamps()
    typo = str(run.folder / "typo")
    done = run("queries.jsonl", typo, code=2)
    assert f"--rerank: model '{typo}' is not a folder" in done.error
    assert "--restart" not in done.err
    assert run.stamps() == before


def test_a_reranker_that_fails_as_it_loads_leaves_the_scores(run: Run) -> None:
    before = run.stamps()
    done = run("queries.jsonl", "fake:8,load=raise", code=1)
    assert "kept until the new one is done" in done.err
    assert "rerank/run: as it was before" in done.err
    assert "--restart" not in done.err
    assert run.stamps() == before
    assert run.left() == []
    events = (run.out / "rerank" / "run" / "events.jsonl").read_bytes()
    run()
    assert b"staged" not in (run.out / "rerank" / "run" / "events.jsonl").read_bytes()[len(events) :], "scores stand"


def test_queries_that_cannot_be_used_leave_the_others(run: Run) -> None:
    before = run.stamps()
    (run.folder / "empty.jsonl").write_text("")
    run.ask("blank.jsonl", " ", "\n")
    for name in ("empty.jsonl", "blank.jsonl"):
        run(name, code=2)
        assert run.stamps() == before
        assert run.left() == []


def test_an_interrupted_replacement_resumes_or_is_taken_back(run: Run, start: Any, waiting: Any) -> None:
    before = run.stamps()
    command = start(*run.args("queries.jsonl", "fake:8,delay_ms=60000"))
    events = run.out / "rerank" / "run" / "events.jsonl"
    aside = run.out / "rerank" / ".run.before"
    waiting.eventually(
        lambda: aside.exists() and events.exists() and b'"hydrated"' in events.read_bytes(), 60.0, "the other reranker"
    )
    command.signal(signal.SIGKILL)
    command.wait()
    assert aside.exists()
    run()
    scores = {name: place for name, place in before.items() if "rerank/run/vectors" in name}
    assert scores.items() <= run.stamps().items()
    assert run.left() == []
