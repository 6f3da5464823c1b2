"""What a GPU makes of the packed forward pass, in at most ten minutes: `python benchmarks/gpu_suite.py OUT.jsonl [--tiny]`.

One JSON line a measurement, written at once. The stages are in the order of their worth; none begins after 560 seconds, and a
line says which did not. Exit code 3: a forward pass without padding computed other numbers than one with it, so no rate counts.
Models are configurations with random weights by a fixed seed, made on the device: their speed is that of trained ones. The
last stage runs the whole command on the bundled all-MiniLM-L6-v2 and needs the package's own requirements; without these it
says so. `--tiny` is the rehearsal: every stage on a CPU with models of two layers, in about a minute.

Rates are wall-clock after warming up, the device waited for at both ends; FLOP count matrix products of unpadded tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedfleet.worker.backends.pack import Pack
from embedfleet.worker.backends.packed_model import PackedModel
from embedfleet.worker.backends.staging import Staging
from embedfleet.worker.backends.vocabulary import weights_of
from machine import machine
from shapes import OTHERS, SHAPES, Shape

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TEN_MINUTES = 560.0
"""Seconds after which no stage begins."""
WRONG = 3
NEAR = {"cuda": 0.999, "cpu": 0.99999}
"""The least cosine of a text's vector between both ways: in bfloat16, and in float32."""


class Suite:
    """The device, the results file, and the clock."""

    def __init__(self, out: Path, *, tiny: bool) -> None:
        self.tiny, self.began = tiny, time.monotonic()
        self.device = torch.device("cpu" if tiny else "cuda")
        self.dtype = torch.float32 if tiny else torch.bfloat16
        self._out = out.open("w")

    def write(self, stage: str, **found: Any) -> None:
        """One result: to the file, and to the terminal."""
        line = json.dumps({"stage": stage, **found}, default=str)
        self._out.write(line + "\n")
        self._out.flush()
        print(line, flush=True)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, step: Callable[[], Any], least: float = 0.5) -> float:
        """Seconds of a step, over as many as take `least` seconds."""
        least = 0.02 if self.tiny else least
        with torch.inference_mode():
            for _ in range(1 if self.tiny else 3):
                step()
            self.wait()
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < least:
                step()
                count += 1
                if count % 8 == 0 or self.tiny:
                    self.wait()
            self.wait()
            return (time.perf_counter() - start) / count

    def packed(self, model: Any) -> PackedModel:
        """The model without padding."""
        return PackedModel(model, Staging(self.device, 3))

    def model(self, shape: Shape) -> Any:
        """A model of this shape with random weights, on the device."""
        from transformers import AutoModel

        torch.manual_seed(7)
        with self.device:
            return AutoModel.from_config(shape.config(tiny=self.tiny)).to(self.dtype).eval()


def lengths_of(tokens: int, length: str, seed: int = 3) -> np.ndarray:
    """Lengths of texts that have about `tokens` tokens together: all alike, or `mixed` (20 to 400, log-uniform)."""
    if length != "mixed":
        return np.full(max(1, tokens // int(length)), int(length), np.int32)
    drawn = np.exp(np.random.default_rng(seed).uniform(np.log(20), np.log(400), 1 + tokens // 20)).astype(np.int32)
    kept = drawn[: max(1, int(np.searchsorted(np.cumsum(drawn), tokens)))]
    return np.sort(kept)[::-1].copy()


def pack_of(lengths: np.ndarray, seed: int = 5) -> Pack:
    """Texts of random tokens."""
    ids = np.random.default_rng(seed).integers(1_000, 30_000, int(lengths.sum())).astype(np.int32)
    return Pack(ids, None, lengths)


def packed(model: PackedModel, pack: Pack) -> torch.Tensor:
    """The texts' mean vectors (n, dim) without padding."""
    batch = model.place(pack)
    hidden = model(batch).last_hidden_state[0]
    return torch.segment_reduce(hidden.float(), "mean", lengths=batch.lengths, unsafe=True)


def padded(model: Any, pack: Pack, device: torch.device) -> torch.Tensor:
    """The same with padding to the longest, as sentence-transformers computes them."""
    mask = torch.arange(int(pack.lengths.max())) < torch.from_numpy(pack.lengths.astype(np.int64))[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.int64)
    ids[mask] = torch.from_numpy(pack.ids.astype(np.int64))
    mask = mask.to(device)
    hidden = model(input_ids=ids.to(device), attention_mask=mask.long()).last_hidden_state.float()
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


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


def correctness(suite: Suite) -> None:
    """Both ways compute the same vectors. SystemExit(WRONG) if not."""
    lengths = np.array([300, 129, 128, 64, 17, 2, 1], np.int32)
    for name, shape in (SHAPES | OTHERS).items():
        model = suite.model(shape)
        with torch.inference_mode():
            ours = packed(suite.packed(model), pack_of(lengths))
            theirs = padded(model, pack_of(lengths), suite.device)
        least = float(torch.nn.functional.cosine_similarity(ours, theirs).min())
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
                    if late(suite):
                        return
                    seconds = suite.rate(step)
                    suite.write(
                        "forward", model=name, length=length, budget=budget, way=way, chunks_per_second=len(lengths) / seconds,
                        tflops=None if suite.tiny else 1e-12 * shape.flops(lengths) / seconds,
                    )  # fmt: skip


def compiled(suite: Suite) -> None:
    """torch.compile against the same without."""
    for name in ("MiniLM-L6",) if suite.tiny else ("MiniLM-L6", "Qwen3-0.6B"):
        ours = suite.packed(suite.model(SHAPES[name]))
        lengths = lengths_of(512 if suite.tiny else 32_768, "mixed")
        pack = pack_of(lengths)
        eager = suite.rate(lambda ours=ours, pack=pack: packed(ours, pack))
        start = time.perf_counter()
        faster = torch.compile(ours._model, dynamic=True, backend="aot_eager" if suite.tiny else "inductor")
        ours._model = faster
        with torch.inference_mode():
            packed(ours, pack)
        suite.wait()
        took = time.perf_counter() - start
        seconds = suite.rate(lambda ours=ours, pack=pack: packed(ours, pack))
        suite.write("compile", model=name, compiling=took, eager=eager, compiled=seconds, ratio=eager / seconds)


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


def tokenizing(suite: Suite) -> None:
    """Texts a second of the word cache, alone and beside a thread that keeps the device at work."""
    from embedfleet.worker.tokenizing.texts import Texts
    from embedfleet.worker.tokenizing.tokenizer import open_tokenizer
    from made_models import make, texts_of_length

    try:
        file = make("dense", Path()) / "tokenizer.json"
    except Exception as error:  # noqa: BLE001 - the bundled model is not everywhere
        suite.write("tokenizing", left_out=str(error)[:200])
        return
    texts = Texts.of(texts_of_length("mixed", 200 if suite.tiny else 4_000))
    tokenizer = open_tokenizer(file, 256, on_difference=lambda reason: suite.write("tokenizing", difference=reason))
    count = len(tokenizer.encode(texts).lengths)
    alone = suite.rate(lambda: tokenizer.encode(texts))
    ours, stop = suite.packed(suite.model(SHAPES["MiniLM-L6"])), threading.Event()
    pack = pack_of(lengths_of(256 if suite.tiny else 32_768, "128"))

    def busy() -> None:
        with torch.inference_mode():
            while not stop.is_set():
                packed(ours, pack)
                suite.wait()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        beside = suite.rate(lambda: tokenizer.encode(texts))
    finally:
        stop.set()
        thread.join()
    suite.write("tokenizing", alone=count / alone, beside_a_forward_pass=count / beside)


def whole_command(suite: Suite) -> None:
    """The command on the bundled model against sentence-transformers' `encode`, both with the texts read already once."""
    from made_models import make, texts_of_length

    chunks = 24 if suite.tiny else 200_000
    with tempfile.TemporaryDirectory(prefix="gpu-suite-") as made:
        corpus = Path(made) / "corpus.jsonl"
        found = texts_of_length("mixed", 4_000)
        texts = [found[row % len(found)] for row in range(chunks)]
        corpus.write_text("".join(json.dumps({"id": str(row), "text": text}) + "\n" for row, text in enumerate(texts)))
        for backend in ("auto",) if suite.tiny else ("torch", "auto"):
            if late(suite):
                return
            out = Path(made) / backend
            command = [sys.executable, "-c", "from embedfleet.__main__ import main; main()", "run", str(corpus)]
            command += ["--out", str(out), "--dense", "all-MiniLM-L6-v2", "--index", "none", "--backend", backend]
            command += ["--devices", "cpu" if suite.tiny else "cuda"]
            start = time.monotonic()
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=max(1.0, seconds_left(suite))
                )
            except subprocess.TimeoutExpired:
                suite.write("command", backend=backend, left_out="no time was left")
                return
            took = time.monotonic() - start
            if done.returncode:
                suite.write("command", backend=backend, left_out=done.stderr[-300:])
                return
            stats = json.loads((out / "stats.json").read_text())["passes"][0]
            suite.write("command", backend=backend, seconds=took, chunks_per_second=chunks / took,
                        chunks_per_second_of_the_pass=chunks / stats["seconds"], split=stats["split"])  # fmt: skip
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(make("dense", Path())), device=suite.device.type, model_kwargs={"dtype": suite.dtype}
        )
        some = texts[:20_000]
        model.encode(some[:8])
        for size in (32,) if suite.tiny else (32, 256):
            start = time.monotonic()
            model.encode(some, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
            suite.write("encode", batch=size, chunks_per_second=len(some) / (time.monotonic() - start))


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


STAGES = (roofline, correctness, forward_passes, compiled, vocabulary, tokenizing, whole_command, profile)


def seconds_left(suite: Suite) -> float:
    """Until no more is to begin."""
    return TEN_MINUTES - (time.monotonic() - suite.began)


def late(suite: Suite) -> bool:
    """Whether no more is to begin."""
    return seconds_left(suite) < 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="rehearse on a CPU")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; add --tiny to rehearse on the CPU")
    suite = Suite(options.out, tiny=options.tiny)
    for stage in STAGES:
        if late(suite):
            suite.write(stage.__name__, left_out="no time was left")
            continue
        start = time.monotonic()
        try:
            stage(suite)
        except Exception as error:
            suite.write(stage.__name__, failed=f"{type(error).__name__}: {error}"[:500])
            if options.tiny:
                raise
        suite.write("took", of=stage.__name__, seconds=time.monotonic() - start)


if __name__ == "__main__":
    main()
