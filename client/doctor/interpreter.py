"""Python and the system that it runs on."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

from ...protocol.version import __version__
from .finding import Finding


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Versions of this package, Python and the system."""

    embedfleet: str
    python: str
    executable: str
    system: str
    container: bool
    """Whether files show that this is a container."""


def measure_interpreter() -> Interpreter:
    """This process's."""
    inside = any(
        os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")
    )
    return Interpreter(__version__, platform.python_version(), sys.executable, platform.platform(), inside)


def interpreter_findings(found: Interpreter) -> list[Finding]:
    """What runs here; a problem for a system that is not Linux."""
    text = f"embedfleet {found.embedfleet}, Python {found.python} ({found.executable}), {found.system}"
    text += ", in a container" if found.container else ""
    if not found.system.startswith("Linux"):
        remedy = "run it on Linux; on Windows, in WSL 2; on macOS, in a Linux container"
        return [Finding("problem", "python", "not-linux", f"{text}: embedfleet needs Linux", remedy)]
    return [Finding("ok", "python", "python", text)]
