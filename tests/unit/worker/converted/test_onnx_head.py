"""What follows a graph, in numpy: the numbers of sentence-transformers' modules, whatever stands in the padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.converted.engines.graph_error import GraphError
from embedfleet.worker.converted.engines.onnx_head import OnnxHead
from embedfleet.worker.converted.record import Exported, Step

from ....optional_packages import Lazy, need

need("sentence_transformers")
exported: Any = Lazy("embedfleet.worker.converted.exported")

LENGTHS = (5, 1, 3)
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def numbers(width: int = 8) -> Any:
    """(texts, tokens, width), not numbers where padding is."""
    found = np.random.default_rng(5).standard_normal((3, 5, width)).astype(np.float32)
    for row, length in enumerate(LENGTHS):
        found[row, length:] = np.nan
    return found


def features(found: Any) -> dict[str, Any]:
    import torch

    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    return {"token_embeddings": torch.from_numpy(np.nan_to_num(found)), "attention_mask": mask.long()}


def both(modules: list[Any]) -> tuple[Any, Any]:
    import torch

    given = numbers()
    outputs = features(given)
    with torch.no_grad():
        for module in modules:
            outputs = module(outputs)
    steps, weights = exported._steps(modules, "sentence_embedding")
    head = OnnxHead("dense", Exported(path="", output="last_hidden_state", steps=steps), weights)
    found, check = head(given, LENGTHS)
    assert np.isfinite(check).all()
    return found, outputs["sentence_embedding"].numpy()


@pytest.mark.parametrize("modes", [*((one,) for one in MODES), ("mean", "cls", "max")])
def test_every_pooling(modes: tuple[str, ...]) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    np.testing.assert_allclose(*both([Pooling(8, pooling_mode=modes)]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU"])
@pytest.mark.parametrize("bias", [True, False])
def test_modules_after_the_pooling(activation: str, bias: bool) -> None:
    import torch
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

    torch.manual_seed(1)
    norm = LayerNorm(8)
    torch.nn.init.uniform_(norm.norm.weight)
    torch.nn.init.uniform_(norm.norm.bias)
    dense = Dense(8, 6, bias=bias, activation_function=getattr(torch.nn, activation)())
    modules = [Pooling(8), norm, Dropout(0.5).eval(), dense, Normalize()]
    np.testing.assert_allclose(*both(modules), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_weights_of_a_vocabulary(strategy: str, activation: str) -> None:
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    given = numbers(40)
    step = Step(name="SpladePooling", modes=(strategy,), activation=activation)
    found, check = OnnxHead("sparse", Exported(path="", output="logits", steps=(step,)), {})(given, LENGTHS)
    theirs = SpladePooling(pooling_strategy=strategy, activation_function=activation)(features(given))
    np.testing.assert_allclose(found, theirs["sentence_embedding"].numpy(), rtol=1e-5, atol=1e-6)
    assert np.isfinite(check).all()


@pytest.mark.parametrize("kind", ["dense", "sparse", "multivector"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_is_seen_in_its_own_text_alone(kind: str, bad: float) -> None:
    given = numbers()
    given[2, 1, 3] = bad
    steps = {"dense": (Step(name="Pooling", modes=("max",)),), "multivector": ()}
    splade = (Step(name="SpladePooling", modes=("max",), activation="relu"),)
    exported_ = Exported(path="", output="", steps=steps.get(kind, splade))
    *_, check = OnnxHead(kind, exported_, {})(given, LENGTHS)
    assert np.isfinite(check).tolist() == [True, True, False]


def test_what_is_not_known_is_named() -> None:
    import torch
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    def reason(*modules: Any) -> str:
        with pytest.raises(GraphError) as raised:
            exported._steps(modules, "sentence_embedding")
        return str(raised.value)

    assert reason(Pooling(8), Dense(8, 8, activation_function=torch.nn.GELU())) == (
        "its Dense with GELU is not computed outside the graph"
    )
    assert "Dense is not computed" in reason(Pooling(8), Dense(8, 8, use_residual=True))
    assert "Normalize is not computed" in reason(Pooling(8), Normalize("token_embeddings"))
    assert "SimpleNamespace is not computed" in reason(Pooling(8), SimpleNamespace())
    assert "a Normalize at the place 0" in reason(Normalize(), Pooling(8))


def test_a_projection_of_another_width_is_an_error() -> None:
    step = Step(name="Dense", activation="Identity")
    head = OnnxHead(
        "multivector", Exported(path="", output="token_embeddings", steps=(step,)), {"0.weight": np.ones((2, 5))}
    )
    with pytest.raises(
        GraphError,
        match="token_embeddings has 8 dimensions, not 5",
    ):
        head(numbers(), LENGTHS)
