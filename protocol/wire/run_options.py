"""How to carry out a run. They may differ each time it is resumed, unlike its spec, which says what it makes."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ..errors import UsageError
from ..spec.run_spec import Backend

Placement = Literal["auto", "cpu", "gpu"]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of one session of a run."""

    batch_timeout: float | None = None
    """Seconds without progress on a batch before its worker counts as hung. None: by the measured speed, at least 30; 600
    before the first measurement."""
    load_timeout: float | None = None
    """Limit in seconds for staging a model, and for hydrating it. None: 3600 with the download, and 300."""
    cpu_fallback: bool = False
    """Continue on a CPU slot if all GPUs have failed. Otherwise the run ends and can be resumed."""
    sparse_device: Placement = "auto"
    """Where learned sparse models run. cpu: on a CPU slot, while the GPUs do other passes. auto: there too if the source is
    so small that a GPU would not be faster; otherwise like all models."""
    backend: Backend = "auto"
    """How forward passes are computed. torch: with padding, by sentence-transformers. torch-packed: without padding, and
    refused for a model that needs it. openvino: by OpenVINO on CPUs, and refused for a model that it cannot take. onnx: by
    ONNX Runtime on CPUs, with the graph in the model's repository, and refused where its results are not torch's. auto: on a
    CPU by OpenVINO where the model is converted already or the run is long, else without padding where the model can."""
    expected_tokens: int = 0
    """Estimated tokens of the source. 0: the coordinator estimates them, and leaves 0 if it cannot. A run over a sample has
    those of the whole source, so that it is computed in the same way."""


DEFAULTS = RunOptions()


def check_options(options: RunOptions) -> None:
    """Raise UsageError for a time limit that is not finite or below 1 second."""
    for flag, seconds in (("--batch-timeout", options.batch_timeout), ("--load-timeout", options.load_timeout)):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 1):
            raise UsageError(f"{flag} {seconds:g}: give seconds, 1 or more")
