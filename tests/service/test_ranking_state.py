"""What is ranked follows what it is made of, wherever it stands: moved and copied directories, other models, other prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.verify.recount import verify_run

from ..run_copies import copied

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
    """A corpus, its queries and judgements, the command on them, and the run directory `out`."""

    def __init__(self, cli: Any, folder: Path) -> None:
        self.cli, self.folder, self.out = cli, folder, folder / "run"

    def make(self) -> None:
        self.folder.mkdir()
        texts = [f"a text about number {row}" for row in range(40)]
        self.write("corpus.jsonl", [{"id": f"c{row}", "text": text} for row, text in enumerate(texts)])
        self.ask("number 7", "number 9")
        (self.folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tc7\t1\nq1\tc9\t1\n")

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


@pytest.fixture(scope="module")
def kept(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the folder `files`, where both were made: `ranked`, with a run whose queries were ranked, and `reranked`."""
    root = tmp_path_factory.mktemp("ranking")
    files = Files(cli, root / "files")
    files.make()
    files.rank(files.out)
    copied(files.folder, root / "ranked")
    files.rank(files.out, "--rerank", "fake:8")
    copied(files.folder, root / "reranked")
    return root


def as_it_was(cli: Any, kept: Path, name: str) -> Files:
    """What is kept under the name, in the place where it was made."""
    shutil.rmtree(kept / "files")
    copied(kept / name, kept / "files")
    return Files(cli, kept / "files")


@pytest.fixture
def ranked(cli: Any, kept: Path) -> Files:
    return as_it_was(cli, kept, "ranked")


@pytest.fixture
def reranked(cli: Any, kept: Path) -> Files:
    return as_it_was(cli, kept, "reranked")


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
    reranked: Files, tmp_path: Path, how: Callable[[Path, Path], None]
) -> None:
    files, out = reranked, reranked.out
    elsewhere = tmp_path / "deep" / "other name" if how is move else tmp_path / "other"
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


def test_queries_that_are_fetched_again_are_the_same_and_others_are_not(reranked: Files) -> None:
    files, out, queries = reranked, reranked.out, reranked.folder / "queries.jsonl"
    before = computed(out)
    content = queries.read_bytes()
    queries.unlink()
    queries.write_bytes(content)
    files.rank(out, "--rerank", "fake:8")
    assert computed(out) == before
    queries.write_bytes(content.replace(b"number 7", b"number 8"))
    files.rank(out, "--rerank", "fake:8")
    assert not computed(out).items() & {(name, one) for name, one in before.items() if not name.startswith("vectors")}


def problems(out: Path) -> list[str]:
    return verify_run(out).problems


TWO = ("--dense", "fake:8", "--sparse", "bm25")


def test_a_restart_leaves_nothing_of_the_ranking(ranked: Files) -> None:
    files, out = ranked, ranked.out
    files.run(out, "--restart")
    assert not (out / "rerank").exists()
    assert not (out / "queries").exists()
    assert not problems(out)


def test_other_counts_and_another_reranker_are_made_anew_at_once(ranked: Files) -> None:
    files, out = ranked, ranked.out
    written = [out / "export" / name for name in ("rerank.jsonl", "export.json")]
    before = {path: path.read_bytes() for path in written}
    for more in (("--candidates", "4"), ("--rerank", "fake:8"), ("--top-k", "2"), ("--rerank", "fake:9"), ()):
        done = files.rank(out, *more, "--json")
        assert not problems(out), more
        assert done.json["evaluation"]["rankings"]
        lines = [json.loads(line) for line in (out / "export" / "rerank.jsonl").read_text().splitlines()]
        assert ("--rerank" in more) == (lines[0]["scores"]["rerank"] is not None)
        if more == ("--candidates", "4"):  # as if it had been cut short after its candidates
            for path, content in before.items():
                path.write_bytes(content)
            (problem,) = problems(out)
            assert "other candidates were found since the ranking" in problem
            files.rank(out, *more)
            assert not problems(out)
    (files.folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tc8\t1\n")
    assert files.rank(out, "--json").json["evaluation"]["queries"] == 1


def prompt_of(out: Path, folder: str, field: str) -> Any:
    return json.loads((out / folder / "spec.json").read_bytes())["passes"][0].get(field)


def search_scores(files: Files, out: Path) -> list[float]:
    return [hit["score"] for hit in files.cli("search", out, "number 7", "--top-k", "3", "--json").json]


def test_after_models_came_what_was_ranked_is_stale_and_the_query_prompt_follows_or_stays(ranked: Files) -> None:
    """What was ranked is stale until queries are asked again. Each command starts from what the last one left."""
    files, out, more = ranked, ranked.out, (*TWO, "--dense", "fake:16", "--ensemble", "concat")

    def state() -> tuple[Any, Any, list[str]]:
        return prompt_of(out, "", "query_prompt"), prompt_of(out, "queries", "prompt"), problems(out)

    plain = search_scores(files, out)
    assert state() == (None, None, [])
    files.rank(out, "--query-prompt", "query: ")
    prompted = search_scores(files, out)
    assert plain != prompted
    assert state() == ("query: ", "query: ", [])

    files.run(out)  # neither queries nor a prompt: what searches ask stays
    assert search_scores(files, out) == prompted
    assert state() == ("query: ", "query: ", [])

    report = (out / "export" / "evaluation.json").read_bytes()
    done = files.run(out, models=TWO)  # nor does a new model change it
    assert state()[:2] == ("query: ", "query: ")
    assert "are stale: sparse-bm25 added since; run the same command again with --queries" in done.err
    (problem,) = problems(out)
    assert "sparse-bm25 added since" in problem
    assert str(files.folder / "queries.jsonl") in problem
    assert (out / "export" / "evaluation.json").read_bytes() == report, "nothing is lost"
    done = files.rank(out, "--query-prompt", "query: ", models=TWO)
    assert "stale" not in done.err
    assert state() == ("query: ", "query: ", [])
    found = json.loads((out / "export" / "evaluation.json").read_bytes())
    assert {"dense-fake-8", "sparse-bm25"} <= {one["name"] for one in found["rankings"]}
    assert "stale" not in files.run(out, models=TWO).err

    done = files.run(
        out, "--query-prompt", "ask: ", models=TWO
    )  # another prompt for searches, and none for the queries
    spec, queries, (problem,) = state()
    assert (spec, queries) == ("ask: ", "query: ")
    for said in (problem, done.err):
        assert "the queries were encoded with the prompt 'query: ' by dense-fake-8, but searches use 'ask: '" in said
    files.rank(out, "--query-prompt", "ask: ", models=TWO)
    assert state() == ("ask: ", "ask: ", [])

    assert "dense-fake-16, ensemble-concat added since" in files.run(out, models=more).err
    assert any("dense-fake-16, ensemble-concat added since" in one for one in problems(out))
    files.rank(out, models=more)  # queries without a prompt: the model's own
    assert state() == (None, None, [])
