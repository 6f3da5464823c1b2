"""What all stages share: the device, the results file, and the clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from embedfleet.worker.backends.packed_model import PackedModel
from embedfleet.worker.backends.staging import Staging
from shapes import Shape

TEN_MINUTES = 560.0
"""Seconds after which no stage begins."""
WRONG = 3
"""Exit code."""


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

    @property
    def seconds_left(self) -> float:
        """Until no more is to begin."""
        return TEN_MINUTES - (time.monotonic() - self.began)

    @property
    def is_late(self) -> bool:
        """Whether no more is to begin."""
        return self.seconds_left < 0
