"""A run directory that was moved or copied, and queries that were fetched again: the same command computes nothing anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qdrant_edge")
pytest.importorskip("ir_measures")

COMPUTED = (
    "vectors/*/*.parquet",
    "queries/vectors/*/*.parquet",
    "rerank/candidates.parquet",
    "rerank/candidates.json",
    "rerank/run/vectors/*/*.parquet",
)


class Files:
    """A corpus, its queries and judgements, and the command on them."""

    def __init__(self, cli: Any, folder: Path) -> None:
        self.cli, self.folder = cli, folder
        folder.mkdir()
        texts = [f"a text about number {row}" for row in range(40)]
        self.write("corpus.jsonl", [{"id": f"c{row}", "text": text} for row, text in enumerate(texts)])
        self.ask("number 7", "number 9")
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tc7\t1\nq1\tc9\t1\n")

    def write(self, name: str, records: list[dict[str, str]]) -> None:
        (self.folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))

    def ask(self, *queries: str) -> None:
        self.write("queries.jsonl", [{"_id": f"q{place}", "text": text} for place, text in enumerate(queries)])

    def run(self, out: Path, *more: str | Path, models: tuple[str, ...] = ("--dense", "fake:8"), code: int = 0) -> Any:
        source = self.folder / "corpus.jsonl"
        return self.cli("run", source, "--out", out, *models, "--devices", "cpu", *more, code=code)

    def rank(self, out: Path, *more: str | Path, models: tuple[str, ...] = ("--dense", "fake:8"), code: int = 0) -> Any:
        asked = ("--queries", self.folder / "queries.jsonl", "--qrels", self.folder / "qrels.tsv")
        return self.run(out, *asked, "--candidates", "9", "--top-k", "3", *more, models=models, code=code)


@pytest.fixture
def files(cli: Any, tmp_path: Path) -> Files:
    return Files(cli, tmp_path / "files")


def computed(out: Path) -> dict[str, tuple[int, bytes]]:
    paths = sorted(path for pattern in COMPUTED for path in out.glob(pattern))
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def move(before: Path, after: Path) -> None:
    after.parent.mkdir()
    before.rename(after)


def copy(before: Path, after: Path) -> None:
    """As `cp -r`: all files have other times."""
    shutil.copytree(before, after, copy_function=shutil.copyfile)


def move_old(before: Path, after: Path) -> None:
    """One that 0.1.0 wrote, which kept no digests."""
    for digest in before.rglob("source.sha256"):
        digest.unlink()
    before.rename(after)


@pytest.mark.parametrize("how", [move, copy, move_old])
def test_a_directory_that_stands_elsewhere_computes_nothing_anew(
    files: Files, tmp_path: Path, how: Callable[[Path, Path], None]
) -> None:
    out, elsewhere = tmp_path / "run", tmp_path / "deep" / "other name" if how is move else tmp_path / "other"
    files.rank(out, "--rerank", "fake:8")
    ranking = (out / "rerank" / "ranking.parquet").read_bytes()
    how(out, elsewhere)
    before = computed(elsewhere)
    assert len(before) == 5
    done = files.rank(elsewhere, "--rerank", "fake:8", "--json")
    assert computed(elsewhere) == before
    assert "is kept until the new one is done" not in done.err
    assert (elsewhere / "rerank" / "ranking.parquet").read_bytes() == ranking
    assert done.json["rerank"]["run"]["coverage"] == 1.0
    assert json.loads((elsewhere / "rerank" / "run" / "spec.json").read_bytes())["source"].startswith(str(elsewhere))
    assert files.cli("verify", elsewhere, "--json").json["ok"]
    before = computed(elsewhere)
    files.rank(elsewhere, "--rerank", "fake:8")
    assert computed(elsewhere) == before


def test_queries_that_are_fetched_again_are_the_same_and_others_are_not(files: Files, tmp_path: Path) -> None:
    out, queries = tmp_path / "run", files.folder / "queries.jsonl"
    files.rank(out, "--rerank", "fake:8")
    before = computed(out)
    content = queries.read_bytes()
    queries.unlink()
    queries.write_bytes(content)
    files.rank(out, "--rerank", "fake:8")
    assert computed(out) == before
    queries.write_bytes(content.replace(b"number 7", b"number 8"))
    files.rank(out, "--rerank", "fake:8")
    assert not computed(out).items() & {(name, one) for name, one in before.items() if not name.startswith("vectors")}
