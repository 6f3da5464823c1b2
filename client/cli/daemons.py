"""`embedfleet serve` and `embedfleet worker`: the two long-lived processes, in the foreground of a shell."""

from __future__ import annotations

import os
import sys

from ...protocol.process.child import SLEEPY_THREADS, STEADY_MEMORY
from ...protocol.wire.channels import parse_address


def serve(bind: str, devices: str | None, *, no_devices: bool, grace: float, otlp: str | None) -> int:
    """Become a coordinator. Does not return: the process is replaced, so signals reach it directly."""
    parse_address(bind, "--bind")
    arguments = [f"--bind={bind}", f"--grace={grace}"]
    if devices is not None:
        arguments.append(f"--devices={devices}")
    if otlp is not None:
        arguments.append(f"--otlp={otlp}")
    if no_devices:
        arguments.append("--no-devices")
    return _become("embedfleet.coordinator", arguments)


def attach(connect: str, devices: str | None, patience: float) -> int:
    """Become a host agent. Does not return."""
    parse_address(connect, "--connect")
    arguments = [f"--connect={connect}", f"--patience={patience}"]
    if devices is not None:
        arguments.append(f"--devices={devices}")
    return _become("embedfleet.coordinator.hosts.attached_agent", arguments)


def _become(module: str, arguments: list[str]) -> int:
    sys.stderr.flush()
    environment = {**SLEEPY_THREADS, **os.environ, **STEADY_MEMORY}
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *arguments], environment)
