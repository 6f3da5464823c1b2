"""Compute linear layers on a CPU by oneDNN, with weights that are converted to its layout once.

torch computes float32 products by MKL, which converts the weights in each call, and is slow on some processors: on an AMD
EPYC with AVX-512, one core reached 106 GFLOP/s by MKL and 240 by oneDNN (512 rows, 384 by 1,536). On others both are alike.
So both are timed with the model's own layers, which takes some milliseconds.
"""

from __future__ import annotations

import time
from typing import Any

ROWS = 512
"""Tokens in the product that is timed: about a micro-batch."""
ROUNDS = 5
WORTH_IT = 1.1
"""How many times as fast as torch's own product oneDNN must be to replace it."""


def use_onednn(torch: Any, module: Any) -> int:
    """Let oneDNN compute the module's float32 linear layers if that is faster here. Returns how many layers it computes now.

    The numbers differ from torch's own by rounding only. A layer's weight becomes an opaque tensor in oneDNN's layout, so
    that it is in memory once; the module can no longer be moved or converted. The layers of a vocabulary are left alone: an
    embedding may share their weights, and SPLADE's weights are computed from parts of them (`vocabulary.py`).
    """
    shared = {id(one.weight) for one in module.modules() if isinstance(one, torch.nn.Embedding)}
    vocabularies = {
        id(one.get_output_embeddings()) for one in module.modules() if hasattr(one, "get_output_embeddings")
    }
    layers = [
        one
        for one in module.modules()
        if type(one) is torch.nn.Linear
        and one.weight.dtype == torch.float32
        and id(one.weight) not in shared
        and id(one) not in vocabularies
    ]
    if not layers or not torch.backends.mkldnn.is_available():
        return 0
    if not _is_faster(torch, max(layers, key=lambda one: one.weight.numel())):
        return 0
    for one in layers:
        _replace(torch, one)
    return len(layers)


def _replace(torch: Any, layer: Any) -> None:
    compute = torch.ops.mkldnn._linear_pointwise
    laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
    layer.weight = torch.nn.Parameter(laid_out, requires_grad=False)

    def forward(rows: Any) -> Any:
        return compute(rows, layer.weight, layer.bias, "none", [], "")

    layer.forward = forward


def _is_faster(torch: Any, layer: Any) -> bool:
    compute = torch.ops.mkldnn._linear_pointwise
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        rows = torch.ones((ROWS, layer.in_features), dtype=layer.weight.dtype)
        compute(rows, weight, layer.bias, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):  # another version of torch, or a build without oneDNN
        return False
    plain = _seconds(lambda: torch.nn.functional.linear(rows, layer.weight, layer.bias))
    return plain > WORTH_IT * _seconds(lambda: compute(rows, weight, layer.bias, "none", [], ""))


def _seconds(step: Any) -> float:
    """The shortest of some rounds: a disturbance only makes a round longer."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best
