"""One matrix for queries, keys and values: the same numbers, and weights that are in memory once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from embedfleet.worker.backends.pack import Pack

from ....optional_packages import Lazy, need
from .architectures import VOCABULARY, build, packed

need("torch", "sentence_transformers")
torch: Any = Lazy("torch")
fused_attention: Any = Lazy("embedfleet.worker.backends.fused_attention")
packed_model: Any = Lazy("embedfleet.worker.backends.packed_model")

FUSED = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra")


def pack_of(lengths: list[int]) -> Pack:
    ids = np.random.default_rng(5).integers(10, VOCABULARY, sum(lengths), dtype=np.int32)
    return Pack(ids, None, np.array(lengths, np.int32))


def hidden(model: Any, pack: Pack) -> Any:
    with torch.inference_mode():
        return model(model.place(pack)).last_hidden_state


@pytest.mark.parametrize("name", FUSED)
def test_the_numbers_are_those_of_three_layers(name: str) -> None:
    pack = pack_of([64, 33, 33, 17, 1])
    model = build(name)
    plain = packed(model)
    expected = hidden(plain, pack)
    fused = packed(build(name))
    assert fused_attention.fuse(fused._model) == model.config.num_hidden_layers
    found = hidden(fused, pack)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * max(1, float(expected.abs().max())))


def test_weights_are_views_of_one_tensor_for_the_model_and_its_twin() -> None:
    model = build("Bert")
    expected = model(torch.ones(1, 5, dtype=torch.long)).last_hidden_state
    size = sum(
        {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in model.parameters()}.values()
    )
    twin = packed_model.twin_of(model)
    fused_attention.fuse(twin)
    attention = model.encoder.layer[0].attention.self
    storages = {getattr(attention, name).weight.untyped_storage().data_ptr() for name in ("query", "key", "value")}
    assert len(storages) == 1
    after = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in [*model.parameters(), *twin.parameters()]
    }
    assert sum(after.values()) == size
    torch.testing.assert_close(model(torch.ones(1, 5, dtype=torch.long)).last_hidden_state, expected)


def test_others_are_left_alone() -> None:
    for name in ("DistilBert", "ModernBert", "Qwen3"):
        assert fused_attention.fuse(packed_model.twin_of(build(name))) == 0
    laid_out = packed_model.twin_of(build("Bert"))
    for one in laid_out.modules():
        if type(one) is torch.nn.Linear:
            one.forward = lambda rows: rows  # as where oneDNN computes it
    assert fused_attention.fuse(laid_out) == 0
