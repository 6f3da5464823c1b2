"""Stages around the device: the tokenizer beside it, and the whole command."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from shapes import SHAPES

from .packs import lengths_of, pack_of, packed
from .suite import Suite


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
            if suite.is_late:
                return
            out = Path(made) / backend
            command = [sys.executable, "-c", "from embedfleet.__main__ import main; main()", "run", str(corpus)]
            command += ["--out", str(out), "--dense", "all-MiniLM-L6-v2", "--index", "none", "--backend", backend]
            command += ["--devices", "cpu" if suite.tiny else "cuda"]
            start = time.monotonic()
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=max(1.0, suite.seconds_left)
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
