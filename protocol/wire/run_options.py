"""How a run is to be carried out. What it makes is in its spec; these may differ each time it is resumed."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ..errors import UsageError

Placement = Literal["auto", "cpu", "gpu"]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of one session of a run."""

    batch_timeout: float | None = None
    """Seconds without progress on a batch after which its worker is taken to hang. None: by the measured speed, 30 at
    least; 600 before anything is measured."""
    load_timeout: float | None = None
    """Seconds that a model may take to be staged, and to be hydrated. None: 3600, a download included, and 300."""
    cpu_fallback: bool = False
    """Where every GPU is given up, a CPU slot goes on, slowly; otherwise the run ends and can be resumed."""
    sparse_device: Placement = "auto"
    """Where learned sparse models run. cpu: on a CPU slot, beside what works on GPUs; auto: there, if the coordinator finds
    the source so small that a GPU would need as long, and else where all models do."""


DEFAULTS = RunOptions()


def check_options(options: RunOptions) -> None:
    """Raise UsageError for what cannot be meant."""
    for flag, seconds in (("--batch-timeout", options.batch_timeout), ("--load-timeout", options.load_timeout)):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 1):
            raise UsageError(f"{flag} {seconds:g}: give seconds, 1 or more")
