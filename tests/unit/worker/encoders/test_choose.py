"""Which encoder a pass gets."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders import fake, fake_others
from embedfleet.worker.encoders.choose import load_encoder

FAKES = {
    "dense": fake.FakeEncoder,
    "sparse": fake_others.FakeSparseEncoder,
    "multivector": fake_others.FakeMultivectorEncoder,
    "bge-m3": fake_others.FakeHeadsEncoder,
    "rerank": fake_others.FakeRerankEncoder,
}
REAL = {
    "dense": "dense.DenseEncoder",
    "sparse": "sparse.SparseVectorGenerator",
    "multivector": "multivector.MultiVectorEncoder",
    "bge-m3": "bge_m3.BgeM3Encoder",
    "rerank": "cross_encoder.CrossEncoderBatchExecutor",
}


def spec(kind: Any, model: str, **options: Any) -> PassSpec:
    return PassSpec(vector="v", kind=kind, model=model, **options)


@pytest.mark.parametrize("kind", list(FAKES))
def test_a_fake_for_each_form(kind: str) -> None:
    assert type(load_encoder(spec(kind, "fake:8"), "cpu", 1)) is FAKES[kind]


@pytest.mark.parametrize("kind", ["bm25", "metadata"])
def test_no_fake_of_other_kinds(kind: str) -> None:
    with pytest.raises(ModelError, match=f"no fake encoder of kind '{kind}'"):
        load_encoder(spec(kind, "fake:8"), "cpu", 1)


def test_bm25_looks_for_no_files() -> None:
    pytest.importorskip("qdrant_edge")
    assert load_encoder(spec("bm25", "bm25", average_length=7.0), "cpu", 1).fingerprint.settings["average_length"] == 7


@pytest.mark.parametrize("kind", list(REAL))
def test_a_real_encoder_for_each_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("embedfleet.worker.encoders.choose.find_model", lambda _spec: "files")
    monkeypatch.setattr(f"embedfleet.worker.encoders.{REAL[kind]}", lambda *arguments: given.append(arguments))
    one = spec(kind, "some/model", max_active_dims=9, pool_factor=2)
    load_encoder(one, "cuda", 3)
    more = {"sparse": (9,), "multivector": (2,)}.get(kind, ())
    assert given == [(one, "files", "cuda", 3, *more)]


def test_metadata_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfleet.worker.encoders.choose.find_model", lambda _spec: "files")
    with pytest.raises(ModelError, match="a pass of kind 'metadata' needs no worker"):
        load_encoder(spec("metadata", "metadata"), "cpu", 1)
