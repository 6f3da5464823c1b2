"""The fake encoder: deterministic unit vectors from the text alone, and faults on demand. Needs no torch.

A text's 64-bit BLAKE2b hash seeds SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"),
whose outputs become the components. `fake:384,delay_ms=5,nan_on=WORD,shape_on=WORD,oom_above=TOKENS,load=FAULT`: a text
with the word of `shape_on` has a result of the wrong shape. `kill_on`, `exit_on`, `raise_on`, `hang_on` and `gil_on` end or
block the process when a text with their word is computed, `prepare_on` when it is tokenized. With `depth=N`, N micro-batches
may be open, as on a GPU: the delay begins when one is launched and the one before is over, faults come when it is collected,
and memory is for all that are open.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...protocol.spec.fake_models import parse_fake
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from .base import DenseResults, Finished, FloatArray, IntArray, Launched, OutOfMemory, Prepared, TokenBudget, kept_dim

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BLOCK = 256
"""Rows at a time, so that the scratch arrays stay in the processor's cache."""


class FakeEncoder(DenseResults):
    """Unit vectors of the given dimension; the same text always has the same vector."""

    def __init__(self, spec: PassSpec) -> None:
        dim, self._options = parse_fake(spec.model)
        self._full, self._dim = dim, kept_dim(spec, dim)
        self.nan_on: str | None = self._options.get("nan_on")
        self._max_tokens = spec.max_tokens or 1 << 20
        self.fingerprint = Fingerprint(
            model=f"fake:{dim}",
            revision="1",
            weights="",
            dtype="float32",
            max_tokens=self._max_tokens,
            prompt=spec.prompt or "",
            query_prompt="",
            pooling="blake2b-splitmix64",
            dim=self._dim,
            normalized=True,
            versions={},
        )
        self.batch_tokens = 524_288
        self.row_bytes = 4 * self._dim
        self.budget = TokenBudget(1 << 20, 1 << 20)
        self.pads = False
        self.depth: int = self._options.get("depth", 1)
        self._device = FakeDevice(self._options.get("delay_ms", 0.0) / 1000, self._options.get("oom_above"))
        self._columns = np.arange(1, (dim + 1) // 2 + 1, dtype=np.uint64) * _GOLDEN

    def hydrate(self) -> str:
        match self._options.get("load"):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "raise":
                raise RuntimeError("CUDA error: out of luck")
            case _:
                pass
        return "host memory, float32"

    def prepare(self, texts: Sequence[str]) -> Prepared:
        if "prepare_on" in self._options and any(self._options["prepare_on"] in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        prompt = self.fingerprint.prompt
        raw = [(prompt + text).encode() for text in texts]
        lengths = np.array([(len(one) + 3) // 4 + 2 for one in raw], np.int32)
        digests = b"".join([hashlib.blake2b(one, digest_size=8).digest() for one in raw])
        items = (texts, np.frombuffer(digests, dtype="<u8"))
        kept = np.minimum(lengths, self._max_tokens)
        return Prepared(kept, lengths > self._max_tokens, items, lengths - kept)

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        if self.depth == 1:
            return Finished(self.compute(prepared, rows))
        tokens = int(prepared.lengths[rows].sum())
        return FakeLaunch(self, prepared, rows, tokens, self._device.begin(tokens))

    def finish(self, launched: FakeLaunch) -> Any:
        """The result of an open micro-batch, when its time is over."""
        self._device.end(launched.tokens, launched.ready_at)
        return self.compute(launched.prepared, launched.rows)

    def compute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        texts, seeds = prepared.items
        if self._options:
            self.misbehave([texts[row] for row in rows], int(prepared.lengths[rows].sum()))
        vectors = self.vectors(seeds[rows])
        if self.nan_on is not None:
            vectors[[self.nan_on in texts[row] for row in rows]] = np.nan
        if self.misshapes([texts[row] for row in rows]):
            return vectors[:, : self._dim // 2]
        return vectors

    def vectors(self, seeds: npt.NDArray[np.uint64]) -> FloatArray:
        """The unit vectors (seeds, dim) for hashes of texts."""
        vectors = np.empty((len(seeds), self._full), np.float32)
        for start in range(0, len(seeds), _BLOCK):
            block = slice(start, start + _BLOCK)
            self._fill(vectors[block], seeds[block])
        return vectors if self._dim == self._full else _unit(vectors[:, : self._dim])

    def recompute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        return self.compute(prepared, rows)

    def _fill(self, out: FloatArray, seeds: npt.NDArray[np.uint64]) -> None:
        state = seeds[:, None] + self._columns[None, :]
        state ^= state >> np.uint64(30)
        state *= _MIX_1
        state ^= state >> np.uint64(27)
        state *= _MIX_2
        state ^= state >> np.uint64(31)
        np.copyto(out, state.view(np.int32)[:, : out.shape[1]], casting="unsafe")
        _unit(out)

    def misshapes(self, texts: Sequence[str]) -> bool:
        """Whether the result for these texts must have the wrong shape."""
        return "shape_on" in self._options and any(self._options["shape_on"] in text for text in texts)

    def misbehave(self, texts: Sequence[str], tokens: int) -> None:
        """Cause the faults that the options want for these texts: fail, exit, hang, or be slow."""
        options = self._options
        self._device.check(tokens)
        if "kill_on" in options and any(options["kill_on"] in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        if "exit_on" in options and any(options["exit_on"] in text for text in texts):
            os._exit(1)
        if "raise_on" in options and any(options["raise_on"] in text for text in texts):
            raise RuntimeError(  # a sticky error with torch's message
                "CUDA error: an illegal memory access was encountered\n"
                "For debugging consider passing CUDA_LAUNCH_BLOCKING=1"
            )
        if "gil_on" in options and any(options["gil_on"] in text for text in texts):
            ctypes.PyDLL(None).pause()  # unlike CDLL, PyDLL keeps the GIL: no thread of this process runs
        if "hang_on" in options and any(options["hang_on"] in text for text in texts):
            threading.Event().wait()
        if self.depth == 1:  # otherwise `finish` has waited
            time.sleep(self._device.delay)


@dataclass(frozen=True, slots=True)
class FakeLaunch:
    """An open micro-batch of a fake encoder."""

    encoder: FakeEncoder
    prepared: Prepared
    rows: IntArray
    tokens: int
    ready_at: float

    def collect(self) -> Any:
        return self.encoder.finish(self)


class FakeDevice:
    """Computes one micro-batch after the other, each `delay` seconds, and holds at most `room` tokens; None: any number."""

    def __init__(self, delay: float, room: int | None) -> None:
        self.delay, self._room = delay, room
        self._lock = threading.Lock()
        self._held, self._idle_at = 0, 0.0

    def check(self, tokens: int) -> None:
        """Raise OutOfMemory if there is no room for so many tokens, nothing else being open."""
        if self._room is not None and tokens > self._room:
            raise OutOfMemory(f"{tokens} tokens; this fake device holds {self._room}")

    def begin(self, tokens: int) -> float:
        """Take the tokens in; when they are computed, by the monotonic clock. Raises OutOfMemory."""
        with self._lock:
            self.check(self._held + tokens)
            self._held += tokens
            self._idle_at = max(self._idle_at, time.monotonic()) + self.delay
            return self._idle_at

    def end(self, tokens: int, ready_at: float) -> None:
        """Wait until they are computed, and forget them."""
        time.sleep(max(0.0, ready_at - time.monotonic()))
        with self._lock:
            self._held -= tokens


def _unit(vectors: FloatArray) -> FloatArray:
    """Normalize in place."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors *= (1.0 / norms)[:, None]
    return vectors
