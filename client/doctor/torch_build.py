"""The build of torch that is installed, and whether the driver can run it. torch is not imported."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from .finding import Finding
from .gpus import Gpus

INDEX = "https://download.pytorch.org/whl"


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """torch's own words on itself. `cuda` and `hip` are versions, empty for a build without."""

    version: str
    cuda: str = ""
    hip: str = ""


def measure_torch() -> TorchBuild | None:
    """By the file `torch/version.py`; None if torch is not installed."""
    found = importlib.util.find_spec("torch")
    places = found.submodule_search_locations if found is not None else None
    for place in places or ():
        try:
            return parse_build((Path(place) / "version.py").read_text())
        except OSError:
            continue
    return None


def parse_build(text: str) -> TorchBuild:
    """The build of which this is the file `version.py`."""
    given = dict(re.findall(r"^(__version__|cuda|hip)\b[^=\n]*= *['\"]([^'\"]+)['\"]", text, re.MULTILINE))
    return TorchBuild(given.get("__version__", "unknown"), given.get("cuda", ""), given.get("hip", ""))


def torch_findings(torch: TorchBuild | None, gpus: Gpus) -> list[Finding]:
    """Whether torch can use the GPUs of this host."""
    if torch is None:
        return []  # the libraries say so
    name = f"torch {torch.version}"
    if not gpus.gpus:
        built = f", built for CUDA {torch.cuda}" if torch.cuda else ""
        return [Finding("ok", "torch", "torch", f"{name}{built}")]
    if not torch.cuda:
        other = "ROCm" if torch.hip else "CPUs"
        text = f"{name} is built for {other}: it cannot use the {len(gpus.gpus)} NVIDIA GPU(s) of this host"
        return [Finding("problem", "torch", "torch-without-cuda", text, _reinstall(gpus))]
    if gpus.cuda and _major(torch.cuda) > gpus.cuda[0]:
        most = ".".join(str(one) for one in gpus.cuda)
        text = f"{name} is built for CUDA {torch.cuda}, and the driver {gpus.driver} runs CUDA {most} at most"
        return [Finding("problem", "torch", "torch-cuda-version", text, _reinstall(gpus) + ", or update the driver")]
    return [Finding("ok", "torch", "torch", f"{name}, built for CUDA {torch.cuda}")]


def _major(cuda: str) -> int:
    """Within a major version, a driver also runs programs of later minor versions."""
    digits = re.match(r"\d+", cuda)
    return int(digits[0]) if digits else 0


def _reinstall(gpus: Gpus) -> str:
    most = f" {gpus.cuda[0]}" if gpus.cuda else ""
    return f"install a torch that is built for CUDA{most}: see {INDEX} for the builds (cu118, cu126, cu128, …)"
