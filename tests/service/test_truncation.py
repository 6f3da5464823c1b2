"""What truncation costs: the table, info, verify, manifest.json and stats.json say the same, after a resume too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..run_copies import copied

pytest.importorskip("qdrant_edge")

LIMIT = 32
TEXTS = [f"word{row} " * (60 if row % 4 == 0 else 3) for row in range(80)]
LENGTHS = [(len(text.strip().encode()) + 3) // 4 + 2 for text in TEXTS]
"""As the fake encoder counts."""
CUT = [max(0, length - LIMIT) for length in LENGTHS]
SHARE = round(sum(CUT) / sum(LENGTHS), 6)
EXPECTED = {
    "truncated": sum(cut > 0 for cut in CUT),
    "truncated_share": 0.25,
    "tokens_cut": sum(CUT),
    "tokens_cut_share": SHARE,
}
FLAGS = (
    "--dense",
    "fake:8",
    "--dense",
    "fake:6",
    "--ensemble",
    "concat",
    "--sparse",
    "bm25",
    "--max-tokens",
    str(LIMIT),
)
FLAGS = (*FLAGS, "--devices", "cpu")
NAMES = ("dense-fake-8", "dense-fake-6", "ensemble-concat")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cli: Any, corpus_of: Any) -> tuple[Path, Path, Any]:
    folder = tmp_path_factory.mktemp("truncation")
    corpus, queries = corpus_of(folder / "corpus.jsonl", TEXTS), folder / "queries.jsonl"
    queries.write_text("".join(json.dumps({"id": f"q{n}", "text": one}) + "\n" for n, one in enumerate(TEXTS[:2])))
    out = folder / "run"
    after = ("--queries", queries, "--rerank", "fake:4")
    return corpus, out, cli("run", corpus, "--out", out, *FLAGS, *after, "--json")


def figures(one: dict[str, Any]) -> dict[str, Any]:
    return {name: one.get(name) for name in EXPECTED}


def test_every_place_says_the_same(made: tuple[Path, Path, Any], cli: Any) -> None:
    _corpus, out, done = made
    nothing = dict.fromkeys(EXPECTED)
    assert [figures(one) for one in done.json["passes"]] == [EXPECTED, EXPECTED, nothing]
    said = (
        f"dense-fake-8: 20 of 80 chunks (25.0%) were cut at {LIMIT} tokens; {SHARE:.1%} of all tokens are in no vector"
    )
    assert f"{said}. What helps: a larger --max-tokens than {LIMIT}, a model" in done.err
    assert f"cut 20 rows, {SHARE:.1%} of all tokens" in done.err
    assert "queries: dense-fake-8: 1 of 2 queries cut at the model's limit" in done.err
    manifest = json.loads((out / "manifest.json").read_bytes())
    told = {one["vector"]: figures(one) for one in manifest["passes"]}
    assert told == {**dict.fromkeys(NAMES[:2], EXPECTED), "ensemble-concat": EXPECTED, "sparse-bm25": nothing}
    assert manifest["rerank_run"]["truncated"] == 0
    stats = json.loads((out / "stats.json").read_bytes())
    assert [figures(one) for one in stats["passes"]] == [EXPECTED, EXPECTED, nothing]
    described = {one["vector"]: figures(one) for one in cli("info", out, "--json").json["vectors"]}
    assert described == told
    assert "20 / " in cli("info", out).out.decode()
    counted = cli("verify", out, "--json").json["vectors"]
    assert [counted[name]["truncated"] for name in (*NAMES, "sparse-bm25")] == [20, 20, 20, None]
    assert [counted[name]["tokens_cut"] for name in NAMES] == [sum(CUT)] * 3
    assert "20 of 80 chunks (25.0%) were cut" in cli("verify", out).out.decode()


def test_a_resume_counts_all_sessions(made: tuple[Path, Path, Any], cli: Any, tmp_path: Path) -> None:
    corpus, out = made[0], copied(made[1], tmp_path / "run")
    (out / "vectors" / "dense-fake-6" / "00000.parquet").unlink()
    done = cli("run", corpus, "--out", out, *FLAGS, "--json")
    assert [figures(one) for one in done.json["passes"][:2]] == [EXPECTED, EXPECTED]
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert [figures(one) for one in manifest["passes"] if one["vector"] in NAMES] == [EXPECTED] * 3
    assert figures(json.loads((out / "stats.json").read_bytes())["passes"][1]) == EXPECTED
    assert cli("verify", out, "--json").json["problems"] == []


def test_a_query_that_is_cut_is_said(made: tuple[Path, Path, Any], cli: Any) -> None:
    _corpus, out, _done = made
    long = cli("search", out, TEXTS[0], "--json")
    assert f"dense-fake-8: the query is longer than the model takes, and was cut; {CUT[0]} tokens ignored" in long.err
    assert "longer than" not in cli("search", out, TEXTS[1], "--json").err
