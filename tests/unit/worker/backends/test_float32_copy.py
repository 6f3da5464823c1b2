"""The copy in float32 has weights of its own; what its modules share, and what they are, stays as it was."""

from __future__ import annotations

from typing import Any

from ....optional_packages import Lazy, need

need("torch")
torch: Any = Lazy("torch")
copies: Any = Lazy("embedfleet.worker.backends.float32_copy")


def tied(tokenizer: object) -> Any:
    """Two layers of one weight, a buffer, and something that is no module."""
    model = torch.nn.Module()
    model.first = torch.nn.Linear(4, 4, bias=False)
    model.second = torch.nn.Linear(4, 4)
    model.second.weight = model.first.weight
    model.register_buffer("frequencies", torch.ones(3, dtype=torch.float64))
    model.tokenizer = tokenizer
    return model


def test_the_copy_is_float32_and_the_modules_stay_as_they_are() -> None:
    tokenizer = object()
    model = tied(tokenizer).bfloat16()
    model.frequencies = torch.ones(3, dtype=torch.float64)
    places = [one.data_ptr() for one in model.parameters()]
    rows = torch.ones(1, 4, dtype=torch.bfloat16)
    before = model.second(rows)
    found = copies.float32_copy(
        {"model": model, "layers": [model.first, model.second]}, torch.device("cpu"), shared=[tokenizer]
    )
    twin = found["model"]
    assert {one.dtype for one in twin.parameters()} == {torch.float32}
    assert twin.frequencies.dtype == torch.float64
    assert torch.equal(twin.first.weight, model.first.weight.float())
    assert found["layers"] == [twin.first, twin.second], "the same layers under both names"
    assert twin.second.weight is twin.first.weight
    assert twin.tokenizer is tokenizer
    assert not any(one.requires_grad for one in twin.parameters())
    twin.first.weight.data.fill_(9)
    twin.frequencies.fill_(9)
    assert [one.data_ptr() for one in model.parameters()] == places
    assert torch.equal(model.second(rows), before)
    assert model.frequencies.tolist() == [1, 1, 1]


def test_weights_are_counted_once() -> None:
    model = tied(object())
    assert copies.parameters_of({"model": model, "layers": [model.first]}) == 4 * 4 + 4
