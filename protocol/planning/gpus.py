"""The GPUs that a plan can name, from `gpus.json`: their memory, and their matrix rate in half precision as published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from ..errors import UsageError

UTILISATION = 0.35
"""The share of a GPU's published matrix rate that a forward pass is assumed to reach, tokenizing and copies included. Not
measured."""
MOST_GPUS = 1_024
_FORM = re.compile(r"(?:(\d{1,9})\s*[x×*]\s*)?(.+)", re.IGNORECASE)  # noqa: RUF001 - people type the sign


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of GPU."""

    gigabytes: float
    """Of memory, in powers of 1,000."""
    teraflops: float
    """Of dense matrices in bfloat16, or in float16 where there is no bfloat16: half of a rate with sparsity."""
    capability: tuple[int, int]
    """CUDA compute capability."""
    names: tuple[str, ...]
    """Parts of the names that the driver has for it."""
    source: str

    @property
    def memory(self) -> int:
        """Bytes."""
        return int(self.gigabytes * 1e9)

    @property
    def dtype(self) -> str:
        """What `--dtype auto` means there."""
        return "bfloat16" if self.capability >= (8, 0) else "float16"


@dataclass(frozen=True, slots=True)
class Gpus:
    """Several GPUs of one kind."""

    count: int
    name: str
    gpu: Gpu

    def __str__(self) -> str:
        return f"{self.count} x {self.name}"


@cache
def gpu_table() -> dict[str, Gpu]:
    """All kinds by name."""
    data = (Path(__file__).parent / "gpus.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, Gpu])


def parse_gpus(text: str) -> Gpus:
    """The GPUs of `8xH100`, or of `H100`. UsageError names the known kinds."""
    found = _FORM.fullmatch(text.strip())
    known = gpu_table()
    name = found[2].strip() if found is not None else ""
    kind = next((one for one in known if one.lower() == name.lower()), None)
    if found is None or kind is None:
        raise UsageError(
            f"--gpus {text!r}: give their count and kind, as in 8xH100. Known: {', '.join(known)}. For others, embed a "
            "sample there with --measure"
        )
    count = int(found[1] or 1)
    if not 1 <= count <= MOST_GPUS:
        raise UsageError(f"--gpus {text!r}: give 1 to {MOST_GPUS:,} GPUs of one machine")
    return Gpus(count, kind, known[kind])


def kind_of(device_name: str) -> str | None:
    """The kind of a GPU by the driver's name, as in `NVIDIA H100 80GB HBM3 (cuda:0)`; None for one that is not listed."""
    words = device_name.split(" (cuda:", 1)[0].removeprefix("NVIDIA ").removeprefix("Tesla ").strip()
    for kind, gpu in gpu_table().items():
        if any(words == name or words.startswith(f"{name} ") for name in gpu.names):
            return kind
    return None
