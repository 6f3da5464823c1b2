"""`embedfleet run --queries` and the search flags, from the outside, with fake models."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qdrant_edge")

TEXTS = [f"a text about number {row}" + " and more" * (row % 7) for row in range(200)] + ["the zebra of row 200"]
QUERIES = {"q1": "the zebra of row 200", "q2": "  ", "q3": "poison about number 7", "q4": TEXTS[12]}
QRELS = "query-id\tcorpus-id\tscore\nq1\tc200\t1\nq3\tc7\t1\nq4\tc12\t1\nq2\tc1\t1\n"
RERANKER = "fake:8,nan_on=poison"


def write_queries(path: Path, queries: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in queries.items()))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus.jsonl with metadata, queries.jsonl with an empty one, qrels.tsv."""
    folder = tmp_path_factory.mktemp("files")
    kinds = ("even", "odd")
    records = (
        {"id": f"c{row}", "text": text, "kind": kinds[row % 2], "n": row, "big": row > 99}
        for row, text in enumerate(TEXTS)
    )
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    write_queries(folder / "queries.jsonl", QUERIES)
    (folder / "qrels.tsv").write_text(QRELS)
    return folder


def arguments(files: Path, out: Path, *more: str | Path, rerank: str = RERANKER) -> tuple[str | Path, ...]:
    passes = ("--dense", "fake:32", "--sparse", "bm25", "--devices", "cpu")
    asked = ("--queries", files / "queries.jsonl", "--rerank", rerank, "--candidates", "20", "--top-k", "3")
    return ("run", files / "corpus.jsonl", "--out", out, *passes, *asked, *more)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory, cli: Any, files: Path) -> tuple[Path, Any]:
    """A run with queries, judgements and a reranker that cannot score one of the queries; and what it printed."""
    pytest.importorskip("ir_measures")
    out = tmp_path_factory.mktemp("ranked") / "run"
    return out, cli(*arguments(files, out, "--qrels", files / "qrels.tsv", "--json"), code=3)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stamps(out: Path, *patterns: str) -> dict[str, tuple[int, int]]:
    paths = sorted(path for pattern in patterns for path in out.glob(pattern))
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_every_query_has_its_chunks_in_order(ranked: tuple[Path, Any]) -> None:
    out, done = ranked
    lines = lines_of(out / "export" / "rerank.jsonl")
    assert [(line["query"], line["rank"]) for line in lines] == [(q, r) for q in ("q1", "q3", "q4") for r in (1, 2, 3)]
    first = lines[0]
    assert first["id"] == "c200"
    assert set(first["scores"]) == {"dense-fake-32", "sparse-bm25", "fused", "rerank"}
    assert first["scores"]["dense-fake-32"] == pytest.approx(1.0, abs=1e-5)
    assert first["ranks"] == {"dense-fake-32": 1, "sparse-bm25": 1, "fused": 1, "rerank": 1}
    assert first["scores"]["rerank"] == pytest.approx(1.0)
    printed = done.json
    assert printed["rerank"]["file"] == str(out / "export" / "rerank.jsonl")
    assert printed["rerank"]["queries"] == {"read": 4, "encoded": 3, "quarantined": 1}


def test_a_score_that_is_no_number_keeps_the_fused_order_and_is_marked(ranked: tuple[Path, Any]) -> None:
    out, done = ranked
    poisoned = [line for line in lines_of(out / "export" / "rerank.jsonl") if line["query"] == "q3"]
    assert [line["ranks"]["fused"] for line in poisoned] == [1, 2, 3]
    assert all(line["fallback"] and line["scores"]["rerank"] is None and line["reason"] for line in poisoned)
    section = json.loads((out / "manifest.json").read_text())["rerank_run"]
    assert (section["queries"], section["pairs"], section["scored"], section["fallbacks"]) == (3, 60, 40, 20)
    assert sum(section["reasons"].values()) == 20
    assert section["coverage"] == pytest.approx(40 / 60, abs=1e-6)
    assert section["batches"] >= 1
    assert {"p50", "p95", "p99"} <= section["batch_seconds"].keys()
    assert section["peak_bytes"] > 0
    assert section["gpu_peak_bytes"] == 0  # on a CPU
    assert section["device"].startswith("cpu")
    assert done.json["rerank"]["run"] == section
    assert "20 keep their fused order" in done.err


def test_every_stage_is_told_at_the_end(ranked: tuple[Path, Any]) -> None:
    names = ("dense-fake-32", "sparse-bm25", "queries: dense-fake-32", "queries: sparse-bm25")
    lines = ranked[1].err.splitlines()[-8:-2]  # the last two say what to type next
    passes = [f"embedfleet: {name}: {rows} rows, " for name, rows in zip(names, (201, 201, 3, 3), strict=True)]
    starts = [*passes, "embedfleet: candidates, fusion: 3 queries, ", "embedfleet: rerank-fake-8: 60 pairs, "]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert all(what in lines[-1] for what in (" s, ", "batch ", "p50 / p95 ", "memory ", "coverage 66.67%"))


def test_an_empty_query_is_in_quarantine(ranked: tuple[Path, Any]) -> None:
    out, done = ranked
    (refused,) = lines_of(out / "queries" / "quarantine.jsonl")
    assert (refused["id"], refused["reason"]) == ("q2", "empty text")
    assert f"queries: 1 in quarantine, each with its reason in {out / 'queries' / 'quarantine.jsonl'}" in done.err


def test_the_manifest_says_of_each_sparse_vector_what_was_live(ranked: tuple[Path, Any]) -> None:
    (section,) = json.loads((ranked[0] / "manifest.json").read_text())["sparse_run"]
    assert (section["vector"], section["live"], section["from_metadata"], section["without"]) == (
        "sparse-bm25",
        201,
        0,
        0,
    )
    assert section["dtype"] == "float32"
    assert "p99" in section["batch_seconds"]


def test_the_evaluation_is_printed_and_written(ranked: tuple[Path, Any]) -> None:
    out, done = ranked
    found = done.json["evaluation"]
    assert found["queries"] == 3
    by_name = {one["name"]: one["scores"] for one in found["rankings"]}
    assert list(by_name) == ["dense-fake-32", "sparse-bm25", "fused", "rerank"]
    assert by_name["sparse-bm25"]["MRR@10"] == 1.0
    assert json.loads((out / "export" / "evaluation.json").read_text()) == found
    page = (out / "export" / "report.html").read_text()
    assert all(f"{value:.4f}" in page for scores in by_name.values() for value in scores.values())
    assert "nDCG@10" in done.err
    assert any("not among the queries" in note for note in found["notes"])
    assert any("20 of 60 pairs have no score" in note for note in found["notes"])


def test_the_same_command_again_computes_nothing(ranked: tuple[Path, Any], cli: Any, files: Path) -> None:
    out, first = ranked
    kept = ("vectors/*/*.parquet", "queries/vectors/*/*.parquet", "rerank/run/vectors/*/*.parquet", "rerank/*.parquet")
    before = stamps(out, *kept[:3], "rerank/candidates.parquet", "rerank/pairs.jsonl")
    again = cli(*arguments(files, out, "--qrels", files / "qrels.tsv", "--json"), code=3).json
    assert stamps(out, *kept[:3], "rerank/candidates.parquet", "rerank/pairs.jsonl") == before
    assert again["rerank"] == first.json["rerank"]
    assert again["evaluation"]["rankings"] == first.json["evaluation"]["rankings"]
    assert cli("verify", out, "--json").json["ok"] is True
    assert cli("verify", out / "queries", "--json").json["ok"] is True
    assert cli("verify", out / "rerank" / "run", "--json").json["ok"] is True


def test_other_queries_another_reranker_and_none(cli: Any, files: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    (other / "corpus.jsonl").hardlink_to(files / "corpus.jsonl")
    write_queries(other / "queries.jsonl", {"a": TEXTS[3], "b": "more about number 9"})
    cli(*arguments(other, out, rerank="fake:8"))
    segments = stamps(out, "vectors/*/*.parquet")
    write_queries(other / "queries.jsonl", {"a": TEXTS[3], "c": TEXTS[5], "d": "zebra"})
    done = cli(*arguments(other, out, "--json", rerank="fake:9"))
    assert done.json["rerank"]["candidates"]["queries"] == 3
    assert done.json["rerank"]["run"]["model"] == "fake:9"
    assert {line["query"] for line in lines_of(out / "export" / "rerank.jsonl")} == {"a", "c", "d"}
    plain = [one for one in arguments(other, out, "--json") if one not in ("--rerank", RERANKER)]
    done = cli(*plain)
    assert done.json["rerank"]["run"] is None
    lines = lines_of(out / "export" / "rerank.jsonl")
    assert all(line["rank"] == line["ranks"]["fused"] and not line["fallback"] for line in lines)
    assert stamps(out, "vectors/*/*.parquet") == segments, "the corpus is not embedded again"
    cli(*[one for one in plain if one != "--json"][:10])  # the corpus alone
    assert (out / "rerank" / "ranking.parquet").exists()


def test_a_query_prompt_is_kept_for_searches_and_changes_no_chunk(cli: Any, files: Path, tmp_path: Path) -> None:
    """A fake vector is that of its whole text: with the prompt, the query is chunk 12 to the letter."""
    out, queries = tmp_path / "run", write_queries(tmp_path / "queries.jsonl", {"q": "number 12" + " and more" * 5})
    prompt = TEXTS[12].removesuffix("number 12" + " and more" * 5)
    passes = ("--dense", "fake:32", "--devices", "cpu", "--queries", queries, "--candidates", "5", "--top-k", "1")

    def best(*more: str) -> dict[str, Any]:
        cli("run", files / "corpus.jsonl", "--out", out, *passes, *more)
        return lines_of(out / "export" / "rerank.jsonl")[0]

    assert best()["scores"]["dense-fake-32"] < 0.99
    segments = stamps(out, "vectors/*/*.parquet")
    found = best("--query-prompt", prompt)
    assert (found["id"], found["scores"]["dense-fake-32"]) == ("c12", pytest.approx(1.0, abs=1e-5))
    assert stamps(out, "vectors/*/*.parquet") == segments, "the corpus is not embedded again"
    assert json.loads((out / "spec.json").read_bytes())["passes"][0]["query_prompt"] == prompt
    query = "number 12" + " and more" * 5
    (hit,) = cli("search", out, query, "--top-k", "1", "--json").json
    assert (hit["id"], hit["score"]) == ("c12", pytest.approx(1.0, abs=1e-5))
    assert best()["scores"]["dense-fake-32"] < 0.99


def test_an_interrupted_reranking_resumes(start: Any, cli: Any, files: Path, tmp_path: Path, waiting: Any) -> None:
    out, slow = tmp_path / "run", "fake:8,delay_ms=1500"
    command = start(*arguments(files, out, rerank=slow))
    events = out / "rerank" / "run" / "events.jsonl"
    waiting.eventually(lambda: events.exists() and b'"hydrated"' in events.read_bytes(), 60.0, "a hydrated reranker")
    command.signal(signal.SIGINT)
    command.wait(130)
    assert "the same command resumes" in command.err
    assert not (out / "export" / "rerank.jsonl").exists()
    before = stamps(out, "queries/vectors/*/*.parquet", "rerank/candidates.parquet")
    cli(*arguments(files, out, rerank=slow), code=3)
    assert stamps(out, "queries/vectors/*/*.parquet", "rerank/candidates.parquet") == before
    assert len(lines_of(out / "export" / "rerank.jsonl")) == 9


def test_pairs_that_do_not_fit_alone_keep_the_fused_order(cli: Any, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = cli(*arguments(files, out, "--json", rerank="fake:8,oom_above=20"), code=3).json["rerank"]["run"]
    assert 0 < done["scored"] < done["pairs"]
    assert all("out of memory" in reason for reason in done["reasons"])
    for query in ("q1", "q3", "q4"):
        lines = [line for line in lines_of(out / "export" / "rerank.jsonl") if line["query"] == query]
        assert [line["fallback"] for line in lines] == sorted(line["fallback"] for line in lines)


def test_a_pair_that_hangs_the_reranker_keeps_the_fused_order(cli: Any, tmp_path: Path) -> None:
    """Nothing is known of the speed yet: the deadline is the one that was asked for."""
    source, out = tmp_path / "corpus.jsonl", tmp_path / "run"
    texts = [f"number {row} and more" for row in range(5)] + ["stuck and more"]
    source.write_text("".join(json.dumps({"id": f"c{row}", "text": text}) + "\n" for row, text in enumerate(texts)))
    queries = write_queries(tmp_path / "queries.jsonl", {"q": "and more"})
    asked = ("--queries", queries, "--rerank", "fake:8,hang_on=stuck", "--candidates", "6", "--top-k", "6", "--json")
    models = ("--dense", "fake:32", "--devices", "cpu", "--batch-timeout", "1.5")
    section = cli("run", source, "--out", out, *models, *asked, code=3).json["rerank"]["run"]
    assert (section["pairs"], section["scored"], section["fallbacks"]) == (6, 5, 1)
    assert section["reasons"] == {"could not be embedded: no progress on a batch for 1.5 s": 1}
    lines = lines_of(out / "export" / "rerank.jsonl")
    assert [line["fallback"] for line in lines] == [False] * 5 + [True]
    assert lines[-1]["id"] == "c5"


def test_a_second_interrupt_ends_the_reranking_at_once(start: Any, files: Path, tmp_path: Path, waiting: Any) -> None:
    out = tmp_path / "run"
    command = start(*arguments(files, out, rerank="fake:8,delay_ms=60000"))
    events = out / "rerank" / "run" / "events.jsonl"
    waiting.eventually(lambda: events.exists() and b'"hydrated"' in events.read_bytes(), 60.0, "a hydrated reranker")
    tree = command.look()
    command.signal(signal.SIGINT)
    waiting.eventually(lambda: "once more to stop at once" in command.err, 20.0, "the drain")
    command.signal(signal.SIGINT)
    command.wait(130)
    waiting.eventually(lambda: all(waiting.is_gone(one) for one in tree.values()), 10.0, "every process gone")
    assert (out / "rerank" / "candidates.parquet").exists()
    assert not (out / "export" / "rerank.jsonl").exists()


def test_queries_go_through_every_kind_of_pass(cli: Any, tmp_path: Path) -> None:
    """Metadata weights of the chunks are found by a query's words, also where they stand in for a model's."""
    weights = {"sparse_features": {"term_weights": [{"term": "tapir", "tf": 1, "weight": 2.0}]}}
    records = [{"id": f"c{row}", "text": f"chunk {row} with word{row}", "metadata": {"n": row}} for row in range(40)]
    records[9]["metadata"] = {"n": 9, **weights}
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in records))
    queries = write_queries(tmp_path / "queries.jsonl", {"q": "tapir", "bad": "word9", "none": "!!!"})
    passes = ("--multivector", "fake:8", "--sparse", "metadata", "--sparse", "fake:64,nan_on=word9", "--devices", "cpu")
    lost = ("--sparse", str(tmp_path / "lost-model"))
    out = tmp_path / "run"
    asked = ("--queries", queries, "--rerank", "fake:8", "--candidates", "5", "--top-k", "5", "--json")
    done = cli("run", source, "--out", out, *passes, *lost, *asked, code=3)
    assert done.json["rerank"]["candidates"]["queries"] == 3
    lines = [line for line in lines_of(out / "export" / "rerank.jsonl") if line["query"] == "q"]
    (found,) = [line for line in lines if line["id"] == "c9"]
    names = ("sparse-metadata", "sparse-fake-64", "sparse-lost-model")
    assert [found["scores"][name] for name in names] == [2.0] * 3
    assert [found["ranks"][name] for name in names] == [1] * 3
    sections = {one["vector"]: one for one in json.loads((out / "manifest.json").read_text())["sparse_run"]}
    counts = {name: tuple(sections[name][key] for key in ("live", "from_metadata", "without")) for name in names}
    assert counts == {"sparse-metadata": (0, 1, 39), "sparse-fake-64": (39, 1, 0), "sparse-lost-model": (0, 1, 39)}
    refused = lines_of(out / "queries" / "quarantine.jsonl")
    assert [(one["id"], one["vector"]) for one in refused] == [("bad", "sparse-fake-64")]


def test_a_reranker_that_cannot_be_had(cli: Any, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = cli(*arguments(files, out, rerank=str(tmp_path / "nothing")), code=2)
    assert str(tmp_path / "nothing") in done.error
    assert not out.exists(), "it is known before anything is embedded"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rerank", "fake:8"), "--rerank fake:8: give --queries"),
        (("--qrels", "qrels.tsv"), "--qrels qrels.tsv: give --queries"),
        (("--top-k", "3"), "--top-k 3: give --queries"),
        (("--candidates", "50"), "--candidates 50: give --queries"),
        (("--export", ""), "--export '': names nothing"),
        (("--queries", "absent.jsonl"), "absent.jsonl: No such file"),
        (("--queries", "."), "is a folder"),
        (("--queries", "pipe"), "pipe: neither a file nor a folder; write it to a file first"),
        (
            ("--queries", "queries.jsonl", "--qrels", "pipe"),
            "pipe: neither a file nor a folder; write it to a file first",
        ),
        (("--queries", "queries.jsonl", "--index", "none"), "leave out --index none"),
        (("--queries", "queries.jsonl", "--candidates", "0"), "--candidates 0: give 1 or more"),
        (("--queries", "queries.jsonl", "--top-k", "101"), "at most the 100 of --candidates"),
        (("--queries", "queries.jsonl", "--qrels", "corpus.jsonl"), "corpus.jsonl, line 1:"),
    ],
)
def test_flags_that_cannot_be_used(cli: Any, files: Path, tmp_path: Path, more: Sequence[str], message: str) -> None:
    args = ("run", "corpus.jsonl", "--out", tmp_path / "run", "--dense", "fake:8", "--devices", "cpu", *more)
    if not (files / "pipe").exists():
        os.mkfifo(files / "pipe")
    assert message in cli(*args, code=2, cwd=files).error
    assert not (tmp_path / "run").exists()


def test_a_file_without_a_query(cli: Any, files: Path, tmp_path: Path) -> None:
    for name, text, message in (
        (
            "none.jsonl",
            '{"_id": "a", "text": ""}\nno json\n',
            "not one record in it can be used (2 rejected): empty text",
        ),
        ("empty.jsonl", "", "is an empty file"),
    ):
        (tmp_path / name).write_text(text)
        out = tmp_path / f"run-{name}"
        args = ("run", files / "corpus.jsonl", "--out", out, "--dense", "fake:8", "--devices", "cpu")
        assert message in cli(*args, "--queries", tmp_path / name, code=2).err


class TestSearch:
    def hits(self, cli: Any, out: Path, *more: str) -> list[dict[str, Any]]:
        return cli("search", out, "a text about number 12", "--json", *more).json

    def test_chosen_signals(self, ranked: tuple[Path, Any], cli: Any) -> None:
        for chosen, names in (("sparse-bm25", {"sparse-bm25"}), ("dense", {"dense-fake-32"})):
            found = self.hits(cli, ranked[0], "--signals", chosen)
            assert found
            assert all(set(one["scores"]) == names for one in found)
        assert (
            "it has dense-fake-32, sparse-bm25" in cli("search", ranked[0], "x", "--signals", "colbert", code=2).error
        )

    def test_filters(self, ranked: tuple[Path, Any], cli: Any) -> None:
        found = self.hits(cli, ranked[0], "--filter", "kind=odd", "--filter", "big=true", "--top-k", "100")
        assert {one["row"] for one in found} == set(range(101, 200, 2))
        assert [one["row"] for one in self.hits(cli, ranked[0], "--filter", "n=12")] == [12]
        assert "give KEY=VALUE" in cli("search", ranked[0], "x", "--filter", "kind", code=2).error

    def test_a_reranker_orders_the_hits(self, ranked: tuple[Path, Any], cli: Any) -> None:
        found = self.hits(cli, ranked[0], "--rerank", "fake:8", "--top-k", "5")
        scores = [one["rerank"] for one in found]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(1.0)
        poisoned = cli("search", ranked[0], "poison number 12", "--json", "--rerank", RERANKER).json
        assert [one["rerank"] for one in poisoned] == [None] * 10
        assert [one["score"] for one in poisoned] == sorted((one["score"] for one in poisoned), reverse=True)
        assert b"rerank 1.0000" in cli("search", ranked[0], "about number 12", "--rerank", "fake:8").out


def test_a_reranker_that_fails_in_a_search_is_one_line(ranked: tuple[Path, Any], cli: Any) -> None:
    error = cli("search", ranked[0], "a lease", "--rerank", "fake:8,raise_on=lease", code=1).error
    assert "model fake:8,raise_on=lease failed: RuntimeError: CUDA error: an illegal memory access" in error
    hits = cli("search", ranked[0], "a lease", "--rerank", "fake:8,oom_above=400", "--json").json
    assert all(hit["rerank"] is not None for hit in hits)
