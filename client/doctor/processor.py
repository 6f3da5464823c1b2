"""The processor, and what its instructions mean for a run on the CPU."""

from __future__ import annotations

import contextlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from .finding import Finding

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""By the kernel's names: x86's two, and ARM's."""
OTHERS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "sve")
"""Others that libraries use where they are; for bug reports."""


@dataclass(frozen=True, slots=True)
class Processor:
    """Its name, its architecture (`x86_64`, `aarch64`), and those of its instruction sets that matter here."""

    name: str
    architecture: str
    sets: tuple[str, ...]


def measure_processor(path: Path = CPUINFO) -> Processor:
    """By the kernel's list; without names where it cannot be read."""
    text = ""
    with contextlib.suppress(OSError):
        text = path.read_text()
    name = re.search(r"^(?:model name|Model)\s*: (.+)$", text, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    flags = set(listed[1].split()) if listed else set[str]()
    sets = tuple(one for one in (*BFLOAT16, *OTHERS) if one in flags)
    return Processor(name[1].strip() if name else platform.machine(), platform.machine(), sets)


def processor_findings(processor: Processor) -> list[Finding]:
    """What the instruction sets mean for --dtype and for speed."""
    found: list[Finding] = []
    if processor.architecture == "x86_64" and processor.sets and "avx2" not in processor.sets:
        text = f"{processor.name} has no AVX2: models are computed several times slower on it"
        found.append(Finding("note", "processor", "no-avx2", text, "use a processor of 2015 or later, or a GPU"))
    has = [one for one in BFLOAT16 if one in processor.sets]
    if has:
        means = f"bfloat16 by {', '.join(has)}: --dtype bfloat16 with --backend openvino takes about 0.6 of the time"
    else:
        means = "no bfloat16 (amx_bf16, avx512_bf16): keep --dtype auto, which is float32 on a CPU"
    sets = f" ({', '.join(processor.sets)})" if processor.sets else ""
    return [*found, Finding("ok", "processor", "processor", f"{processor.name}{sets}; {means}")]
