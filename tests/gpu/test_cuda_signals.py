"""Every kind of model but the plain dense one on a GPU, against sentence-transformers on the same GPU, in float32."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.client.run_directory.reader import SparseVectors

from .. import tiny_models
from ..optional_packages import Lazy, need
from .corpus import events

need("sentence_transformers")
st: Any = Lazy("sentence_transformers")


pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

TEXTS = [f"A {word} of {row}. " * (1 + row % 4) for row in range(60) for word in ("lease", "batch", "segment", "token")]
CLOSE = 2e-3
"""Products of float32 may be taken in TF32 on a GPU, whose mantissa has 10 bits."""
ON_GPU = ("--devices", "cuda:0", "--dtype", "float32")
PLACED = ["cuda:0 float32"]


@pytest.fixture
def embedded(tmp_path: Path, embed: Callable[..., Any]) -> Callable[..., Any]:
    """Runs TEXTS through the passes that the flags ask for; the run, read back."""

    def call(*flags: str) -> Any:
        corpus = tmp_path / "corpus.jsonl"
        corpus.write_text("".join(json.dumps({"id": f"c{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS)))
        embed(corpus, tmp_path / "run", *ON_GPU, *flags)
        return open_run(tmp_path / "run")

    return call


def placements(folder: Path) -> list[str]:
    """Where a run had its models, without how it computed them."""
    return [one["placement"].partition(", ")[0] for one in events(folder, "lease") if one["phase"] == "hydrated"]


def test_learned_sparse_weights(tmp_path: Path, embedded: Callable[..., Any]) -> None:
    folder = tiny_models.splade(tmp_path / "splade")
    run = embedded("--sparse", str(folder), "--sparse-device", "gpu")
    assert placements(run.layout.root) == PLACED
    found = run.vectors("sparse-splade")
    assert isinstance(found, SparseVectors)
    model = st.SparseEncoder(str(folder), device="cuda", local_files_only=True)
    theirs = model.encode_document(TEXTS, convert_to_sparse_tensor=False).float().cpu().numpy()
    ours = np.zeros_like(theirs)
    for row, (start, stop) in enumerate(zip(found.indptr[:-1].tolist(), found.indptr[1:].tolist(), strict=True)):
        ours[row, found.indices[start:stop]] = found.values[start:stop]
    assert (ours > 0).sum() > len(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=CLOSE)


def test_multivectors(tmp_path: Path, embedded: Callable[..., Any]) -> None:
    folder = tiny_models.colbert(tmp_path)
    run = embedded("--multivector", str(folder))
    assert placements(run.layout.root) == PLACED
    found = run.vectors("multivector-colbert")
    model = st.MultiVectorEncoder(str(folder), device="cuda", local_files_only=True)
    theirs = model.encode_document(TEXTS, convert_to_numpy=True)
    for ours, other in zip(np.split(found.tokens, found.indptr[1:-1]), theirs, strict=True):
        np.testing.assert_allclose(ours, other, atol=CLOSE)


def test_the_three_heads_of_one_pass(tmp_path: Path, embedded: Callable[..., Any]) -> None:
    folder = tiny_models.bge_m3(tmp_path / "m3")
    run = embedded("--heads", str(folder))
    assert placements(run.layout.root) == PLACED
    dense, late = run.vectors("dense-m3"), run.vectors("multivector-m3")
    sparse, tokens = run.vectors("sparse-m3"), np.split(late.tokens, late.indptr[1:-1])
    for row in (0, 7, len(TEXTS) - 1):
        one, terms, colbert = tiny_models.bge_m3_apart(folder, TEXTS[row])
        np.testing.assert_allclose(dense[row], one, atol=CLOSE)
        np.testing.assert_allclose(tokens[row], colbert, atol=CLOSE)
        start, stop = sparse.indptr[row : row + 2].tolist()
        assert sparse.indices[start:stop].tolist() == list(terms)
        np.testing.assert_allclose(sparse.values[start:stop], list(terms.values()), atol=CLOSE)


def test_scores_of_pairs(tmp_path: Path, embedded: Callable[..., Any]) -> None:
    folder = tiny_models.cross_encoder(tmp_path / "cross")
    queries = {"q1": "what is a segment?", "q2": "the batch of a lease"}
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in queries.items()))
    run = embedded("--sparse", "bm25", "--queries", str(path), "--rerank", str(folder), "--candidates", "40")
    assert placements(run.layout.scores) == PLACED
    ranked = [json.loads(line) for line in (run.layout.export / "rerank.jsonl").read_text().splitlines()]
    assert len(ranked) > len(queries)
    model = st.CrossEncoder(str(folder), device="cuda", local_files_only=True)
    theirs = model.predict([(queries[one["query"]], TEXTS[one["row"]]) for one in ranked])
    np.testing.assert_allclose([one["scores"]["rerank"] for one in ranked], theirs, atol=CLOSE)
