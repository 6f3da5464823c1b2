"""Texts that are computed one after the other have the numbers that each has alone, for every architecture."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.backends.pack import Pack, pack_lists, pack_rows
from embedfleet.worker.tokenizing.flat import FlatTokens

from ....optional_packages import Lazy, need
from .architectures import ARCHITECTURES, VOCABULARY, build, here, packed

need("torch", "sentence_transformers")
torch: Any = Lazy("torch")
heads: Any = Lazy("embedfleet.worker.backends.heads")
packed_attention: Any = Lazy("embedfleet.worker.backends.packed_attention")
packed_model: Any = Lazy("embedfleet.worker.backends.packed_model")

SHAPES = {"one token": [1], "equal lengths": [12] * 5, "ragged": [64, 33, 33, 17, 9, 5, 1]}
POOLINGS = ("cls", "lasttoken", "mean", "max", "mean_sqrt_len_tokens", "weightedmean")
BOUND = 1e-5


class Transformer:
    """What sentence-transformers calls the module that has a model of transformers."""

    def __init__(self, model: Any) -> None:
        self.model = model


def pack_of(lengths: list[int]) -> Pack:
    ids = np.random.default_rng(5).integers(10, VOCABULARY, sum(lengths), dtype=np.int32)
    return Pack(ids, None, np.array(lengths, np.int32))


def texts_of(pack: Pack) -> list[Any]:
    return [one[None] for one in torch.from_numpy(pack.ids).long().split(pack.lengths.tolist())]


def output_of(model: Any, pack: Pack) -> Any:
    computing = packed(model)
    return computing(computing.place(pack))


def assert_close(found: Any, expected: Any) -> None:
    """To BOUND, in relation to the largest number."""
    np.testing.assert_allclose(
        found.detach(), expected.detach(), rtol=0, atol=BOUND * max(1, float(expected.abs().max()))
    )


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def test_every_architecture_is_tried() -> None:
    assert {build(name).config.model_type for name in ARCHITECTURES} == packed_model.PACKABLE


@pytest.mark.parametrize("shape", SHAPES)
def test_token_vectors_are_those_of_each_text_alone(model: Any, shape: str) -> None:
    pack = pack_of(SHAPES[shape])
    assert packed_model.cannot_pack(model, torch.device("cpu")) == ""
    before = model.config._attn_implementation
    output = output_of(model, pack)
    assert model.config._attn_implementation == before
    expected = [model(input_ids=one).last_hidden_state[0] for one in texts_of(pack)]
    assert_close(output.last_hidden_state[0], torch.cat(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_vectors_are_those_of_the_reference(model: Any, shape: str) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    pack = pack_of(SHAPES[shape])
    pooling = Pooling(64, pooling_mode=POOLINGS)
    compute = heads.dense([Transformer(model), pooling], here(), False)
    assert not isinstance(compute, str)
    expected = [
        pooling({"token_embeddings": model(input_ids=one).last_hidden_state, "attention_mask": torch.ones_like(one)})
        for one in texts_of(pack)
    ]
    assert_close(compute(pack)["sentence_embedding"], torch.cat([one["sentence_embedding"] for one in expected]))


@pytest.mark.parametrize("shape", SHAPES)
def test_multivectors_are_those_of_the_reference(model: Any, shape: str) -> None:
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    pack = pack_of(SHAPES[shape])
    projection = Dense(64, 16, bias=False, activation_function=None, module_input_name="token_embeddings")
    mask = MultiVectorMask(["skipped"])
    mask._skiplist_ids = torch.from_numpy(pack.ids[1::3]).long()
    compute = heads.multivector([Transformer(model), projection, mask, Normalize("token_embeddings")], here())
    assert not isinstance(compute, str)
    outputs = compute(pack)
    expected, kept = [], []
    for one in texts_of(pack):
        features = {"token_embeddings": model(input_ids=one).last_hidden_state, "input_ids": one}
        features["attention_mask"] = torch.ones_like(one)
        features = mask(projection(features), task="document")
        expected.append(torch.nn.functional.normalize(features["token_embeddings"], dim=-1)[0])
        kept.append(features["attention_mask"][0])
    assert_close(outputs["token_embeddings"], torch.cat(expected)[torch.cat(kept)])
    assert outputs["kept"].tolist() == [int(one.sum()) for one in kept]


SPLADES = ("Bert", "Camembert", "DistilBert", "Electra", "ModernBert", "Roberta", "XLMRoberta")


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("name", SPLADES)
def test_sparse_weights_are_those_of_the_reference(
    name: str, strategy: Any, activation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    monkeypatch.setattr("embedfleet.worker.backends.vocabulary.TILE", 384)  # the last tile is a smaller one
    model, pooling = build(name, "ForMaskedLM"), SpladePooling(strategy, activation)
    for lengths in SHAPES.values():
        pack = pack_of(lengths)
        compute = heads.sparse([Transformer(model), pooling], here())
        assert not isinstance(compute, str)
        expected = [
            pooling({"token_embeddings": model(input_ids=one).logits, "attention_mask": torch.ones_like(one)})
            for one in texts_of(pack)
        ]
        found = compute(pack)["sentence_embedding"]
        assert_close(found, torch.cat([one["sentence_embedding"] for one in expected]))


RERANKERS = ("Bert", "Camembert", "DistilBert", "Electra", "Gte", "ModernBert", "NomicBert", "Qwen3", "Roberta")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*RERANKERS, "XLMRoberta", "Qwen2", "Llama"])
def test_scores_are_those_of_each_pair_alone(name: str, shape: str) -> None:
    model, pack = build(name, "ForSequenceClassification", num_labels=1), pack_of(SHAPES[shape])
    compute = heads.score([Transformer(model)], here())
    assert not isinstance(compute, str)
    expected = torch.cat([model(input_ids=one).logits for one in texts_of(pack)])
    assert_close(compute(pack)["scores"].reshape(-1), expected.reshape(-1))


def test_token_types_count() -> None:
    model, pack = build("Bert"), pack_of([7, 4])
    types = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1], np.int32)
    output = output_of(model, Pack(pack.ids, types, pack.lengths))
    apart = zip(texts_of(pack), torch.from_numpy(types).long().split([7, 4]), strict=True)
    expected = [model(input_ids=one, token_type_ids=kinds[None]).last_hidden_state[0] for one, kinds in apart]
    assert_close(output.last_hidden_state[0], torch.cat(expected))


def test_threads_compute_at_the_same_time() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from sentence_transformers.sparse_encoder.modules import SpladePooling

    compute = heads.sparse([Transformer(build("Bert", "ForMaskedLM")), SpladePooling("max", "relu")], here())
    assert not isinstance(compute, str)
    packs = [pack_of([length, 5, length + 3]) for length in range(1, 25)]

    @torch.inference_mode()
    def weights(pack: Pack) -> Any:
        return compute(pack)["sentence_embedding"]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(weights, packs))
    for pack, found in zip(packs, together, strict=True):
        assert_close(found, weights(pack))


def difference(model: Any) -> float:
    pack = pack_of(SHAPES["ragged"])
    output = output_of(model, pack)
    expected = torch.cat([model(input_ids=one).last_hidden_state[0] for one in texts_of(pack)])
    return float((output.last_hidden_state[0] - expected).abs().max())


def test_without_the_offset_of_positions_the_numbers_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("XLMRoberta")
    assert difference(model) < 1e-4
    monkeypatch.setattr("embedfleet.worker.backends.packed_model.position_offset", lambda _model: 0)
    assert difference(model) > 0.1


@pytest.mark.parametrize("name", ["ModernBert", "Gemma3Text"])
def test_without_windows_the_numbers_are_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    assert difference(model) < 1e-4
    window = packed_attention._window
    wide = packed_attention.NO_LIMIT
    monkeypatch.setattr(
        "embedfleet.worker.backends.packed_attention._window",
        lambda length, _left, right: window(length, wide, 0 if right == 0 else wide),
    )
    assert difference(model) > 0.01


@pytest.mark.parametrize("name", ["Qwen3", "Llama"])
def test_where_tokens_see_those_after_them_the_numbers_are_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    assert difference(model) < 1e-4
    monkeypatch.setattr("embedfleet.worker.backends.packed_attention._window", lambda *_arguments: None)
    assert difference(model) > 0.01


def test_what_is_not_packed_says_why() -> None:
    import transformers

    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    mpnet = transformers.MPNetModel(transformers.MPNetConfig(**ARCHITECTURES["Bert"]))
    assert packed_model.cannot_pack(mpnet, cpu) == "mpnet models are computed with padding"
    assert packed_model.cannot_pack(SimpleNamespace(), cpu) == "SimpleNamespace models are computed with padding"
    eager = build("Bert")
    eager.set_attn_implementation("eager")
    assert packed_model.cannot_pack(eager, cpu) == "its attention is eager"
    assert packed_model.cannot_pack(build("Bert"), cuda) == "FlashAttention takes half precision only"
    assert packed_model.cannot_pack(build("Bert").bfloat16(), cuda) == ""
    odd = build("Bert", num_attention_heads=16).bfloat16()
    assert packed_model.cannot_pack(odd, cuda) == "attention heads of 4 dimensions"


def flat(ids: list[int], lengths: list[int], types: list[int] | None = None) -> FlatTokens:
    """A tokenized batch."""
    some = np.array(lengths, np.int32)
    kinds = np.array(types, np.uint8) if types is not None else None
    return FlatTokens(np.array(ids, np.int32), some, np.zeros(len(some), np.bool_), np.zeros_like(some), kinds)


def test_rows_are_taken_in_the_order_that_is_asked_for() -> None:
    pack = pack_rows(flat([1, 2, 3, 4, 5, 6], [2, 1, 3]), np.array([2, 0], np.int32))
    assert (pack.ids.tolist(), pack.lengths.tolist(), pack.types) == ([4, 5, 6, 1, 2], [3, 2], None)
    assert (pack.ends.tolist(), pack.positions.tolist()) == ([0, 3, 5], [0, 1, 2, 0, 1])
    both = pack_rows(flat([1, 2, 3], [2, 1], [0, 1, 1]), np.array([1, 0], np.int32))
    assert both.types is not None
    assert both.types.tolist() == [1, 0, 1]
    lists = {"input_ids": [[1, 2], [3]], "token_type_ids": [[0, 1], [1]]}
    for one in ({"input_ids": lists["input_ids"]}, lists):
        again = pack_lists(one, np.array([1, 0], np.int32))
        assert (again.ids.tolist(), again.lengths.tolist()) == (both.ids.tolist(), both.lengths.tolist())
        assert (again.types is None) == (one is not lists)
