"""Graphs of every architecture, computed by OpenVINO: numbers of texts beside others are those of each text alone."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.converted.engines.openvino_runtime import import_openvino
from embedfleet.worker.converted.padding import padded
from embedfleet.worker.converted.record import TokenSettings
from embedfleet.worker.tokenizing.flat import FlatTokens

from ....optional_packages import Lazy, need
from ..backends.architectures import ARCHITECTURES, SMALL, VOCABULARY, build
from .apart import apart

need("torch", "openvino", "sentence_transformers")
torch: Any = Lazy("torch")
graphs: Any = Lazy("embedfleet.worker.converted.graph")

RELATIVE = {"relative_attention": True, "position_buckets": 32, "max_relative_positions": -1}
PADDED_ONLY: dict[str, dict[str, Any]] = {
    "Albert": {**SMALL, "embedding_size": 64},
    "DebertaV2": {**SMALL, **RELATIVE, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"},
    "MPNet": {**SMALL, "pad_token_id": 1},
}
"""Architectures that torch computes with padding only."""
LENGTHS = (2, 3, 17, 40, 90, 120)
BOUND = 1e-5


def transformer(model: Any) -> Any:
    """As the module of sentence-transformers."""

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            named = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
            return {**features, "token_embeddings": self.model(**features, **named).last_hidden_state}

    return Transformer()


def model_of(name: str) -> Any:
    if name in ARCHITECTURES:
        return build(name)
    import transformers

    torch.manual_seed(3)
    return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**PADDED_ONLY[name])).eval()


ROWS = ((0,), (5,), (5, 0), (4, 3, 2), (5, 4, 3, 2, 1, 0))


@pytest.mark.parametrize("name", [*ARCHITECTURES, *PADDED_ONLY])
def test_a_text_has_the_numbers_that_it_has_alone(name: str) -> None:
    expected, results = apart(computed, name)
    assert len(results) == len(ROWS)
    for rows, (found, sums) in zip(ROWS, results, strict=True):
        np.testing.assert_allclose(found, np.stack([expected[row] for row in rows]), atol=BOUND)
        assert np.isfinite(sums).all()


def computed(name: str) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The vectors of each text alone by torch, and for each of ROWS the graph's vectors and sums."""
    from embedfleet.worker.converted.traced_attention import traced_attention
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.set_grad_enabled(False)  # this process is for it alone
    openvino, model = import_openvino(), model_of(name)
    pooling = Pooling(64, pooling_mode=("cls", "lasttoken", "mean"))
    graph: Any = graphs.ModelGraph(SimpleNamespace(kind="dense", route=[transformer(model), pooling])).eval()
    none = np.zeros(len(LENGTHS), np.int32)
    ids = np.random.default_rng(2).integers(10, VOCABULARY, sum(LENGTHS)).astype(np.int32)
    tokens = FlatTokens(ids, np.array(LENGTHS, np.int32), none.astype(np.bool_), none)
    settings = TokenSettings(limit=128, pad=model.config.pad_token_id or 0, truncates_left=False, types=False)

    def inputs(*rows: int) -> list[Any]:
        return padded(tokens, np.array(rows, np.int32), settings)

    expected = [graph(*map(torch.from_numpy, inputs(row)))[0][0].numpy() for row in range(len(LENGTHS))]
    shape = openvino.PartialShape([-1, -1])
    named = [(one, shape, openvino.Type.i64) for one in ("input_ids", "attention_mask")]
    with warnings.catch_warnings(), traced_attention(model):
        warnings.simplefilter("ignore")
        example = tuple(map(torch.from_numpy, inputs(2, 0)))
        converted = openvino.convert_model(graph, example_input=example, input=named)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return expected, [(np.array(made[0]), np.array(made[1])) for made in (compiled(inputs(*rows)) for rows in ROWS)]


def encoder_like(**changes: Any) -> Any:
    model = type("BertModel", (), {"__module__": "transformers.models.bert"})()
    module = "sentence_transformers.modules"
    first = type("Transformer", (), {"__module__": module, "model": model})()
    pooling = type("Pooling", (), {"__module__": module, "include_prompt": True})()
    return SimpleNamespace(
        **{"kind": "dense", "tokenizer": "t", "takes_tasks": False, "route": [first, pooling]} | changes
    )


def test_what_cannot_be_converted_says_why() -> None:
    plain = encoder_like()
    first, pooling = plain.route
    own = type("Pooling", (), {"__module__": "their_code"})()
    left_out = type("Pooling", (), {"__module__": "sentence_transformers.x", "include_prompt": False})()
    assert graphs.cannot_convert(plain) == ""
    assert graphs.cannot_convert(encoder_like(tokenizer=None)) == "it tokenizes texts itself"
    assert graphs.cannot_convert(encoder_like(takes_tasks=True)) == "its modules take a task of their own"
    assert graphs.cannot_convert(encoder_like(route=[pooling])) == "Pooling is not a transformer"
    assert graphs.cannot_convert(encoder_like(route=[first, own])) == "it has modules of its own: Pooling"
    assert graphs.cannot_convert(encoder_like(route=[first, left_out])) == "its pooling leaves out the prompt"
    assert graphs.cannot_convert(encoder_like(route=[first])) == "it does not pool tokens: "
    assert graphs.cannot_convert(encoder_like(kind="multivector")) == "it has modules that see several tokens: Pooling"
    softmax = encoder_like(kind="rerank", route=[first], activation=torch.nn.Softmax())
    assert graphs.cannot_convert(softmax) == "it has modules after the scores: Softmax"
    foreign = type("Transformer", (), {"__module__": "sentence_transformers.x", "model": SimpleNamespace()})()
    assert graphs.cannot_convert(encoder_like(route=[foreign, pooling])) == "its code is its own"
