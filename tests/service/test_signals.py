"""One command for every signal: dense, sparse, metadata, a fallback, multivectors and ensembles, in all that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.vectors.metadata_terms import term_index

from ..run_copies import copied

pytest.importorskip("qdrant_edge")

ROWS = 60
UNWEIGHTED = 7
"""Every so many chunks, one has no term weights of its own."""
WORDS = ("lease", "batch", "segment", "vector", "worker", "token")
MEMBERS = ("dense-fake-24", "dense-fake-16")
CONCAT = EnsembleSpec(vector="ensemble-concat", method="concat", members=MEMBERS, weights=(2.0, 1.0))
AVERAGE = EnsembleSpec(vector="ensemble-average", method="average", members=MEMBERS, weights=(2.0, 1.0))
NAMES = [*MEMBERS, "multivector-fake-8", "sparse-fake-500", "sparse-metadata", "sparse-missing",
         "ensemble-concat", "ensemble-average"]  # fmt: skip
DENSE = [*MEMBERS, "ensemble-concat", "ensemble-average"]
DIM = 16
"""Of the dense vectors: those of the first model are truncated to it."""


def text_of(row: int) -> str:
    return f"chunk {row} is about a {WORDS[row % len(WORDS)]} and number {row * 31}"


def chunk(row: int) -> dict[str, Any]:
    """As the first users' chunkers write it."""
    weights = [{"term": WORDS[row % len(WORDS)], "tf": 1, "weight": 1.5}, {"term": f"row{row}", "tf": 1, "weight": 0.5}]
    features = {"sparse_features": {"version": 1, "term_weights": weights}} if row % UNWEIGHTED else {}
    return {"text": text_of(row), "metadata": {"chunk_id": f"c{row}", "section_path": ["A"], **features}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for number, collection in enumerate(("Docs", "Papers")):
        (root / collection).mkdir()
        rows = range(number * ROWS // 2, (number + 1) * ROWS // 2)
        (root / collection / "made_chunks.json").write_text(json.dumps([chunk(row) for row in rows]))
    return root


def command(corpus: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    missing = corpus.parent / "nowhere" / "missing"
    return (
        "run", corpus, "--out", out, "--devices", "cpu", "--dense", "fake:24", "--dense", "fake:16",
        "--truncate-dim", str(DIM), "--ensemble", "concat", "--ensemble", "average", "--weights", "2,1",
        "--multivector", "fake:8", "--sparse", "fake:500", "--sparse", "metadata", "--sparse", str(missing), *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cli: Any, corpus: Path) -> tuple[Path, Any]:
    """The run, and what the command printed. Rows without weights of their own are all that is in quarantine."""
    out = tmp_path_factory.mktemp("signals") / "run"
    return out, cli(*command(corpus, out, "--json"), code=3)


def unweighted() -> list[int]:
    return list(range(0, ROWS, UNWEIGHTED))


def test_one_command_makes_every_vector(made: tuple[Path, Any], fake_vectors: Any) -> None:
    out, done = made
    assert (done.json["chunks"], done.json["quarantined"]) == (ROWS, len(unweighted()))
    assert "sparse-missing" in done.err
    assert f"ensemble-average: {ROWS} rows, coverage 100.00%" in done.err
    assert "Weights of the metadata stand in" in done.err
    weighted = f"coverage 85.00%, weights {ROWS - len(unweighted())} from metadata, {len(unweighted())} without"
    lines = {line.split(": ")[1]: line for line in done.err.splitlines() if "coverage" in line}
    assert all(weighted in lines[name] for name in ("sparse-metadata", "sparse-missing"))
    assert "coverage 100.00%" in lines["sparse-fake-500"]
    assert "weights" not in lines["sparse-fake-500"]
    run = open_run(out)
    assert run.complete
    assert list(run.vector_names) == NAMES
    texts = run.chunks.column("text").to_pylist()
    assert texts == [text_of(row) for row in range(ROWS)]
    cut = fake_vectors(texts, 24)[:, :DIM]
    members = [cut / np.linalg.norm(cut, axis=1, keepdims=True), fake_vectors(texts, 16)]
    for name, expected in zip(MEMBERS, members, strict=True):
        np.testing.assert_allclose(run.vectors(name), expected, atol=1e-6)
    for one in (CONCAT, AVERAGE):
        np.testing.assert_allclose(run.vectors(one.vector), combine(one, members), atol=1e-6)
    late = run.vectors("multivector-fake-8")
    assert np.diff(late.indptr).tolist() == [len(text.split()) for text in texts]
    assert late.tokens.shape == (late.indptr[-1], 8)


def test_sparse_weights_come_from_the_model_or_the_metadata(made: tuple[Path, Any]) -> None:
    run = open_run(made[0])
    live = run.vectors("sparse-fake-500")
    assert (np.diff(live.indptr) > 3).all()
    assert live.indices.max() < 500
    for name in ("sparse-metadata", "sparse-missing"):
        found = run.vectors(name)
        for row in range(ROWS):
            part = slice(found.indptr[row], found.indptr[row + 1])
            terms = [WORDS[row % len(WORDS)], f"row{row}"] if row % UNWEIGHTED else []
            assert found.indices[part].tolist() == sorted(map(term_index, terms))
    bad = {(one["vector"], one["row"]) for one in run.quarantine}
    assert bad == {("sparse-missing", row) for row in unweighted()}


def test_verify_and_info_see_every_vector(made: tuple[Path, Any], cli: Any) -> None:
    report = cli("verify", made[0], "--json").json
    assert (report["problems"], report["points"], list(report["vectors"])) == ([], ROWS, NAMES)
    described = {one["vector"]: one for one in cli("info", made[0], "--json").json["vectors"]}
    assert list(described) == NAMES
    assert {name: described[name]["dim"] for name in DENSE} == dict.fromkeys(DENSE, DIM) | {"ensemble-concat": 2 * DIM}
    weighted = ROWS - len(unweighted())
    assert [described[name]["stood_in"] for name in NAMES[3:6]] == [0, weighted, weighted]
    assert b"ensemble-concat" in cli("info", made[0]).out


def test_search_asks_every_signal(made: tuple[Path, Any], cli: Any) -> None:
    hits = cli("search", made[0], text_of(8), "--top-k", "3", "--json").json
    assert hits[0]["id"] == "c8"
    assert set(hits[0]["scores"]) == set(NAMES)
    for name in DENSE:
        assert hits[0]["scores"][name] == pytest.approx(1.0, abs=1e-5)
    members = [np.array([hit["scores"][name] for hit in hits]) for name in MEMBERS]
    joined = [hit["scores"]["ensemble-concat"] for hit in hits]
    np.testing.assert_allclose(joined, (2 * members[0] + members[1]) / 3, atol=1e-5)


def test_each_evidence_is_fused_once(made: tuple[Path, Any], cli: Any) -> None:
    """The first ensemble in place of its members, the metadata weights once; what is named is fused."""

    def scores(*signals: str) -> list[float]:
        named = ("--signals", ",".join(signals)) if signals else ()
        return [hit["score"] for hit in cli("search", made[0], text_of(8), "--json", *named).json]

    once = ("multivector-fake-8", "sparse-fake-500", "sparse-metadata", "ensemble-concat")
    assert scores() == scores(*once)
    assert scores(*NAMES)[0] > scores()[0]
    assert scores("dense") == scores("ensemble-concat")
    assert scores("dense", "multivector-fake-8", "dense-fake-16")[0] == pytest.approx(1.5), "three signals' first place"


def test_candidates_are_fused_of_each_evidence_once(
    made: tuple[Path, Any], cli: Any, corpus: Path, tmp_path: Path
) -> None:
    out, queries = copied(made[0], tmp_path / "run"), tmp_path / "queries.jsonl"
    queries.write_text(json.dumps({"_id": "q", "text": text_of(8)}) + "\n")
    done = cli(*command(corpus, out, "--queries", str(queries), "--json"), code=3)
    fused = done.json["rerank"]["candidates"]["fused"]
    assert fused == ["multivector-fake-8", "sparse-fake-500", "sparse-metadata", "ensemble-concat"]
    rows = pq.read_table(RunLayout(out).candidates).to_pylist()[:10]
    assert all(row["ensemble-average.score"] is not None for row in rows), "scored all the same"
    hits = cli("search", out, text_of(8), "--signals", ",".join(fused), "--json").json
    assert [row["fused.score"] for row in rows] == pytest.approx([hit["score"] for hit in hits])


def test_exports_and_manifest_hold_every_vector(made: tuple[Path, Any], cli: Any) -> None:
    out, run = made[0], open_run(made[0])
    cli("export", out)
    layout = RunLayout(out)
    for name in DENSE:
        np.testing.assert_array_equal(np.load(layout.export / f"{name}.npy"), run.vectors(name))
    points = [json.loads(line) for line in (layout.export / "points.jsonl").read_text().splitlines()]
    assert set(points[1]["vector"]) == set(NAMES)
    assert set(points[0]["vector"]) == set(NAMES) - {"sparse-metadata", "sparse-missing"}
    np.testing.assert_allclose(points[3]["vector"]["ensemble-concat"], run.vectors("ensemble-concat")[3], atol=1e-7)
    schema = json.loads((layout.export / "collection.json").read_bytes())["create"]
    assert schema["vectors"]["ensemble-concat"] == {"size": 2 * DIM, "distance": "Cosine"}
    assert run.manifest is not None
    recorded = {one["vector"]: one for one in run.manifest["passes"]}
    assert list(recorded) == NAMES
    assert recorded["ensemble-concat"]["members"] == list(MEMBERS)
    lengths = [len(text_of(row).split()) for row in range(ROWS)]
    counted = {"total": sum(lengths), "fewest": min(lengths), "most": max(lengths)}
    assert recorded["multivector-fake-8"]["token_vectors"] == counted
    assert "token_vectors" not in recorded["ensemble-concat"]


def test_the_same_command_has_nothing_left_to_do(made: tuple[Path, Any], cli: Any, corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[0].glob("vectors/*/*.parquet")}
    (made[0] / "vectors" / "ensemble-average" / "00000.parquet").unlink()
    cli(*command(corpus, made[0], "--json"), code=3)
    changed = [path for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert [path.parent.name for path in changed] == ["ensemble-average"]
    assert cli("verify", made[0], "--json").json["ok"]


def test_without_fallback_a_missing_model_is_an_error(cli: Any, corpus: Path, tmp_path: Path) -> None:
    error = cli(*command(corpus, tmp_path / "run", "--no-fallback"), code=2).error
    assert "missing" in error


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--no-fallback",), 3)])
def test_without_fallback_a_chunk_that_the_model_fails_on_is_in_quarantine(
    cli: Any, corpus: Path, tmp_path: Path, flags: tuple[str, ...], code: int
) -> None:
    """The others keep the model's weights; with the fallback, the chunk's own stand in."""
    out, bad = tmp_path / "run", 33
    assert bad % UNWEIGHTED, "it has weights of its own"
    model = f"fake:500,nan_on=chunk {bad}"
    done = cli("run", corpus, "--out", out, "--devices", "cpu", "--sparse", model, "--json", *flags, code=code).json
    (section,) = json.loads((out / "manifest.json").read_bytes())["sparse_run"]
    found, run = (section["live"], section["from_metadata"], section["without"]), open_run(out)
    if not flags:
        assert (done["quarantined"], found, run.quarantine) == (0, (ROWS - 1, 1, 0), [])
        return
    assert (done["committed"], done["quarantined"], found) == (ROWS - 1, 1, (ROWS - 1, 0, 1))
    (one,) = run.quarantine
    assert (one["row"], one["vector"]) == (bad, "sparse-fake-500")
    assert (np.diff(run.vectors("sparse-fake-500").indptr) > 0).tolist() == [row != bad for row in range(ROWS)]


@pytest.mark.parametrize("storage", ["float16", "int8", "binary"])
def test_stored_in_fewer_bits_it_is_still_found(cli: Any, corpus: Path, tmp_path: Path, storage: str) -> None:
    out = tmp_path / "run"
    models = ("--dense", "fake:64", "--dense", "fake:32", "--ensemble", "concat", "--ensemble", "average", "--project")
    cli("run", corpus, "--out", out, *models, "--store", storage, "--devices", "cpu")
    assert cli("verify", out, "--json").json["problems"] == []
    hits = cli("search", out, text_of(41), "--top-k", "1", "--json").json
    assert hits[0]["id"] == "c41"
    ensembles = {"ensemble-concat": ("float32", 96), "ensemble-average": ("float32", 32)}
    assert set(hits[0]["scores"]) == {"dense-fake-64", "dense-fake-32", *ensembles}
    assert hits[0]["scores"]["ensemble-average"] > 0.7, "the query is projected as the rows are"
    described = {one["vector"]: (one["storage"], one["dim"]) for one in cli("info", out, "--json").json["vectors"]}
    assert described == {"dense-fake-64": (storage, 64), "dense-fake-32": (storage, 32)} | ensembles
    settings = json.loads(RunLayout(out).pass_file("ensemble-average").read_bytes())["settings"]
    assert settings == {"dense-fake-64": 0.5, "dense-fake-32": 0.5, "projection_seed": 17}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--dense", "fake:24", "--dense", "fake:16", "--ensemble", "average"), "fake-24 has 24, dense-fake-16 has 16"),
        (("--dense", "fake:24", "--truncate-dim", "32"), "--truncate-dim 32: the vectors of fake:24 have 24"),
        (("--dense", "fake:20", "--store", "binary"), "dense-fake-20 has 20 dimensions, which is no multiple of 8"),
        (("--dense", "fake:24", "--weights", "1"), "give --ensemble concat or average too"),
    ],
)
def test_what_does_not_fit_is_refused(cli: Any, corpus: Path, tmp_path: Path, flags: tuple[str, ...], why: str) -> None:
    assert why in cli("run", corpus, "--out", tmp_path / "run", "--devices", "cpu", *flags, code=2).error


def test_a_model_with_broken_files_falls_back_as_a_missing_one_does(cli: Any, corpus: Path, tmp_path: Path) -> None:
    model = tmp_path / "broken"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": []}')
    (model / "model.safetensors").write_bytes(b"")
    (model / "modules.json").write_text("{")
    done = cli("run", corpus, "--out", tmp_path / "run", "--devices", "cpu", "--sparse", model, "--json", code=3)
    assert done.json["quarantined"] == len(unweighted())
    assert "modules.json is not JSON" in done.err


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("metadata", "--sparse metadata: no chunk has metadata.sparse_features.term_weights, a list of objects"),
        ("/nowhere/missing", "and no chunk has metadata.sparse_features.term_weights that could stand in"),
    ],
)
def test_where_no_chunk_has_weights_nothing_can_stand_in(
    cli: Any, corpus_of: Any, tmp_path: Path, model: str, why: str
) -> None:
    corpus = corpus_of(tmp_path / "plain.jsonl", ["no weights here", "nor there"])
    args = ("run", corpus, "--out", tmp_path / "run", "--devices", "cpu", "--dense", "fake:8", "--sparse", model)
    assert why in cli(*args, code=2).error
    cli(*args[:-2])  # as the message says: without it


def test_a_multivector_of_more_numbers_than_a_point_takes_is_all_that_its_row_lacks(
    cli: Any, corpus_of: Any, read_events: Any, tmp_path: Path
) -> None:
    out, texts = tmp_path / "run", ["two words", "word " * 20, "three more words"]
    args = ("--heads", "fake:65536", "--truncate-dim", "8", "--devices", "cpu", "--json")
    done = cli("run", corpus_of(tmp_path / "long.jsonl", texts), "--out", out, *args, code=3)
    assert (done.json["committed"], done.json["quarantined"]) == (2, 1)
    (bad,) = open_run(out).quarantine
    why = "20 token vectors are 1,310,720 numbers, and Qdrant takes at most 1,048,576 in a point; give --pool-factor"
    assert (bad["id"], bad["vector"]) == ("c1", "multivector-fake-65536")
    assert bad["reason"].startswith(why)
    assert np.isfinite(open_run(out).vectors("dense-fake-65536")).all()
    (event,) = [one for one in read_events(out) if one["event"] == "multivector_too_large"]
    assert (event["vector"], event["rows"]) == ("multivector-fake-65536", 1)
    assert event["reason"].startswith(why)
    assert f"multivector-fake-65536: rows without a multivector so far: 1. {why}" in done.err
    assert cli("verify", out, "--json").json["problems"] == []


def test_weights_that_cannot_be_used_are_told(cli: Any, tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus.jsonl", tmp_path / "run"
    entries = [{"term": "fox", "weight": 1.5}, {"term": "fox", "weight": 1e300}, {"token": "fox", "weight": 1}]
    chunks = [{"text": f"text {row}", "sparse_features": {"term_weights": [one]}} for row, one in enumerate(entries)]
    corpus.write_text("".join(json.dumps(one) + "\n" for one in [*chunks, {"text": "without any"}]))
    done = cli("run", corpus, "--out", out, "--sparse", "metadata", "--devices", "cpu", "--json", code=3)
    assert done.json["quarantined"] == 2
    reasons = [one["reason"] for one in open_run(out).quarantine]
    assert "[0] has the weight 1e+300, which float32 does not keep as positive and finite" in reasons[0]
    assert reasons[1].endswith("term_weights[0] has no term")
    (section,) = json.loads((out / "manifest.json").read_bytes())["sparse_run"]
    assert (section["from_metadata"], section["without"], section["unusable"]) == (1, 3, 2)
    assert "coverage 25.00%, weights 1 from metadata, 3 without" in done.err
