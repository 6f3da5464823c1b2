"""Stages of single operations: the device's own limits, SPLADE's weights, the kernels of a micro-batch."""

from __future__ import annotations

from typing import Any

import torch
from embedfleet.worker.backends.vocabulary import weights_of
from machine import machine
from shapes import SHAPES

from .packs import lengths_of, pack_of, packed
from .suite import Suite


def roofline(suite: Suite) -> None:
    """The matrix rate at the models' shapes, and the rate of copies."""
    suite.write("machine", **machine(), device=torch.cuda.get_device_name() if suite.device.type == "cuda" else "cpu")
    for rows in (256,) if suite.tiny else (16_384, 65_536):
        for inside, outside in ((384, 1_536), (1_536, 384), (768, 3_072), (1_024, 4_096)):
            left = torch.randn(rows, inside, device=suite.device, dtype=suite.dtype)
            right = torch.randn(outside, inside, device=suite.device, dtype=suite.dtype)
            seconds = suite.rate(lambda left=left, right=right: torch.nn.functional.linear(left, right), 0.2)
            suite.write("matrix", rows=rows, shape=(inside, outside), tflops=2e-12 * rows * inside * outside / seconds)
    host = torch.empty(1 << (20 if suite.tiny else 27), dtype=torch.uint8, pin_memory=suite.device.type == "cuda")
    there = torch.empty_like(host, device=suite.device)
    for name, step in (("to", lambda: there.copy_(host, non_blocking=True)), ("from", lambda: host.copy_(there))):
        suite.write("copy", way=f"{name} the device", gigabytes_per_second=1e-9 * len(host) / suite.rate(step, 0.2))


def vocabulary(suite: Suite) -> None:
    """SPLADE's weights by tiles of the vocabulary, against whole logits; and a multivector's copy in float16."""
    tokens, width, words = (256, 64, 9_000) if suite.tiny else (16_384, 768, 30_522)
    hidden = torch.randn(tokens, width, device=suite.device, dtype=suite.dtype)
    weight = torch.randn(words, width, device=suite.device, dtype=suite.dtype)
    bias = torch.zeros(words, device=suite.device, dtype=suite.dtype)
    lengths = torch.full((tokens // 128,), 128, device=suite.device)
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    pooling = SpladePooling()

    def whole() -> Any:
        logits = torch.nn.functional.linear(hidden, weight, bias).float()
        return torch.segment_reduce(logits, "max", lengths=lengths, unsafe=True).relu().log1p()

    tiles = suite.rate(lambda: weights_of(hidden, lengths, weight, bias, pooling))
    suite.write("vocabulary", tiles=tiles, logits=suite.rate(whole))
    vectors = torch.randn(tokens, 128, device=suite.device)
    for dtype in (torch.float32, torch.float16):
        suite.write("copy", dtype=str(dtype), seconds=suite.rate(lambda dtype=dtype: vectors.to(dtype).cpu(), 0.2))


def profile(suite: Suite) -> None:
    """The kernels of one micro-batch: how many, and the longest ones."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    ours = suite.packed(suite.model(SHAPES["MiniLM-L6"]))
    pack = pack_of(lengths_of(256 if suite.tiny else 32_768, "mixed"))
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (suite.device.type == "cuda")
    with torch.inference_mode():
        packed(ours, pack)
        with record(activities=kinds) as found:
            packed(ours, pack)
            suite.wait()
    rows = sorted(
        found.key_averages(), key=lambda row: -getattr(row, "self_device_time_total", 0) - row.self_cpu_time_total
    )
    suite.write(
        "profile", operations=sum(row.count for row in rows), longest=[(row.key[:60], row.count) for row in rows[:15]]
    )
