"""What a benchmark ran on: processor, instruction sets, cores, load, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("numpy", "pyarrow", "tokenizers", "torch", "transformers", "sentence-transformers", "qdrant-edge-py"),
    *("openvino", "onnxruntime", "infinity-emb", "fastembed"),
)
SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "fma")


def machine() -> dict[str, Any]:
    """The processor with those of SETS that it has, and the versions of what computes on it."""
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    lines = dict(line.split(":", 1) for line in about.splitlines() if ":" in line)
    fields = {name.strip(): text.strip() for name, text in lines.items()}
    return {
        "machine": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [one for one in SETS if one in fields.get("flags", "").split()],
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def has_bfloat16() -> bool:
    """Whether the processor multiplies matrices in bfloat16."""
    return any(one.endswith("bf16") for one in machine()["flags"])


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
