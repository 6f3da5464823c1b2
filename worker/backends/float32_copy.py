"""Copy modules with their weights in float32. The modules themselves do not change, and may compute meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch


def float32_copy(modules: Mapping[str, Any], device: torch.device, *, shared: Iterable[Any] = ()) -> dict[str, Any]:
    """Copies of named modules, or of lists of them, on a device. Converting half precision to float32 is exact.

    Modules that share a part have copies that share its copy. Buffers keep their dtype, since the reference keeps some in
    float32. The copies use the objects in `shared`, such as tokenizers, and not copies of these.
    """
    memo: dict[int, Any] = {id(one): one for one in shared}
    for one in _all_modules(modules.values()):
        for parameter in one.parameters(recurse=False):
            if id(parameter) not in memo:
                weights = parameter.detach().to(device, torch.float32, copy=True)
                memo[id(parameter)] = torch.nn.Parameter(weights, requires_grad=False)
        for buffer in one.buffers(recurse=False):
            memo[id(buffer)] = buffer.to(device, copy=True)
    return copy.deepcopy(dict(modules), memo)


def parameters_of(modules: Mapping[str, Any]) -> int:
    """Numbers in the weights of these modules, each counted once."""
    found = {
        id(one): one.numel() for module in _all_modules(modules.values()) for one in module.parameters(recurse=False)
    }
    return sum(found.values())


def _all_modules(values: Iterable[Any]) -> Iterable[torch.nn.Module]:
    for value in values:
        for one in value if isinstance(value, list) else [value]:
            yield from one.modules()
