"""Stages of whole forward passes: numbers, rates, and what torch.compile makes of them."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from embedfleet.worker.backends.compiling.backbone import CompiledBackbone
from embedfleet.worker.backends.compiling.kernels import compiling
from shapes import OTHERS, SHAPES
from torch.nn.functional import cosine_similarity

from .packs import lengths_of, pack_of, packed, padded
from .suite import WRONG, Suite

NEAR = {"cuda": 0.999, "cpu": 0.99999}
"""The least cosine of a text's vector between both ways: in bfloat16, and in float32."""


def correctness(suite: Suite) -> None:
    """Both ways compute the same vectors. SystemExit(WRONG) if not."""
    lengths = np.array([300, 129, 128, 64, 17, 2, 1], np.int32)
    for name, shape in (SHAPES | OTHERS).items():
        model = suite.model(shape)
        with torch.inference_mode():
            ours = packed(suite.packed(model), pack_of(lengths))
            theirs = padded(model, pack_of(lengths), suite.device)
        least = float(cosine_similarity(ours, theirs).min())
        suite.write("correctness", model=name, least_cosine=least)
        if not least >= NEAR[suite.device.type]:
            raise SystemExit(WRONG)
    model = suite.model(SHAPES["MiniLM-L6"])
    model.embeddings.word_embeddings.weight.data[2_000] = torch.nan
    pack = pack_of(lengths)
    pack.ids[pack.ids == 2_000] = 2_001
    pack.ids[310] = 2_000  # in the second text
    with torch.inference_mode():
        finite = packed(suite.packed(model), pack).isfinite().all(1).tolist()
    suite.write("correctness", model="a text that is not a number stays alone", finite=finite)
    if finite != [row != 1 for row in range(len(lengths))]:
        raise SystemExit(WRONG)


def forward_passes(suite: Suite) -> None:
    """Texts a second by model, length and tokens of a micro-batch, without and with padding."""
    budgets = (512,) if suite.tiny else (8_192, 16_384, 32_768, 65_536, 131_072)
    for name, shape in list(SHAPES.items())[-1 if suite.tiny else 0 :]:
        model = suite.model(shape)
        ours = suite.packed(model)
        small = shape.hidden < 1_024 and shape.kind == "Bert"
        for length in ("128", "512", "mixed"):
            for budget in budgets if small else budgets[2:4] or budgets:
                lengths = lengths_of(budget, length)
                pack = pack_of(lengths)
                ways = {
                    "packed": partial(packed, ours, pack),
                    "padded": partial(padded, model, pack, suite.device),
                }
                for way, step in ways.items():
                    if suite.is_late:
                        return
                    seconds = suite.rate(step)
                    suite.write(
                        "forward", model=name, length=length, budget=budget, way=way, chunks_per_second=len(lengths) / seconds,
                        tflops=None if suite.tiny else 1e-12 * shape.flops(lengths) / seconds,
                    )  # fmt: skip


def compiled(suite: Suite) -> None:
    """Texts a second with torch.compile and without, for packs of several sizes, and how many graphs these took."""
    sizes = ((600, "mixed"), (256, "64")) if suite.tiny else ((32_768, "mixed"), (8_192, "128"), (65_536, "mixed"))
    for name in ("MiniLM-L6",) if suite.tiny else ("MiniLM-L6", "bge-base", "Qwen3-0.6B"):
        if suite.is_late:
            return
        model, lengths = suite.packed(suite.model(SHAPES[name])), [lengths_of(*size) for size in sizes]
        packs = [pack_of(some) for some in lengths]
        backbone = CompiledBackbone(model, "aot_eager" if suite.tiny else "inductor")
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        with torch.inference_mode(), compiling("gpu-suite"):
            before = [packed(model, pack) for pack in packs]
            backbone.turn_on_and_compile()
            start = time.perf_counter()
            after = [packed(model, packs[0])]
            suite.wait()
            took = time.perf_counter() - start
            after += [packed(model, pack) for pack in packs[1:]]
        least = min(float(cosine_similarity(*both).min()) for both in zip(before, after, strict=True))
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        suite.write("compile", model=name, seconds=took, graphs=graphs, least_cosine_to_eager=least)
        for size, some, pack in zip(sizes, lengths, packs, strict=True):
            backbone.turn_on()
            fast = len(some) / suite.rate(partial(packed, model, pack))
            backbone.turn_off()
            plain = len(some) / suite.rate(partial(packed, model, pack))
            suite.write("compile", model=name, size=size, compiled=fast, eager=plain, ratio=fast / plain)
