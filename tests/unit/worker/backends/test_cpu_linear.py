"""Linear layers by oneDNN have the numbers of torch's own, and are used where they are faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from embedfleet.worker.backends import cpu_linear
from embedfleet.worker.backends.cpu_linear import use_onednn

from ....optional_packages import Lazy, need

need("torch")
torch: Any = Lazy("torch")


def new_model() -> Any:
    """Two linear layers, one that shares its weight with an embedding, and the last one of a masked language model."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.words = torch.nn.Embedding(100, 64)
            self.first, self.second = torch.nn.Linear(64, 96), torch.nn.Linear(96, 64, bias=False)
            self.last = torch.nn.Linear(64, 100, bias=False)
            self.last.weight = self.words.weight

            self.others = torch.nn.Linear(64, 100)

        def get_output_embeddings(self) -> Any:
            return self.others

        def forward(self, ids: Any) -> Any:
            return self.last(self.second(self.first(self.words(ids)).relu()))

    return Model()


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(cpu_linear, "WORTH_IT", 0.0)


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("shape", [(7,), (1, 13), (3, 5)])
def test_numbers_are_those_of_torch(shape: tuple[int, ...]) -> None:
    model, ids = new_model().eval(), torch.arange(int(np.prod(shape))).reshape(shape)
    with torch.inference_mode():
        expected = model(ids)
        parameters = sum(one.numel() for one in model.parameters())
        assert use_onednn(torch, model) == 2
        np.testing.assert_allclose(model(ids), expected, rtol=0, atol=1e-5)
    assert sum(one.numel() for one in model.parameters()) == parameters
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert model.last.weight is model.words.weight
    assert model.others.weight[10:20].shape == (10, 64)


@pytest.mark.usefixtures("faster")
def test_half_precision_is_left_to_torch() -> None:
    assert use_onednn(torch, new_model().bfloat16()) == 0


def test_what_is_not_faster_or_not_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_linear, "WORTH_IT", 1e9)
    assert use_onednn(torch, new_model()) == 0
    assert use_onednn(torch, torch.nn.ReLU()) == 0

    def gone(*_arguments: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(cpu_linear, "WORTH_IT", 0.0)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", gone, raising=False)
    assert use_onednn(torch, new_model()) == 0
