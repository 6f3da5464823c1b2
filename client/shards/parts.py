"""Read a whole source by one child process for each free core."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from ...protocol.errors import RunFailed, describe_exit
from ...protocol.host.free_cores import find_free_cores
from ...protocol.process.child import STEADY_MEMORY, ChildProcess, exit_error
from ...protocol.run_directory.records.fit import TermCount
from ...protocol.spec.run_spec import RunSpec

POLL_SECONDS = 0.05
MODULE = "embedfleet.coordinator.fitting.read_part"


def read_parts(folder: Path, spec: RunSpec, stopping: Callable[[], bool]) -> Sequence[TermCount] | None:
    """The counts of each part; None if `stopping()` turned true. Their files, the samples too, are in `folder`.

    The first error of a child is raised, and ends the others.
    """
    parts = find_free_cores().threads
    children, outputs = list[ChildProcess](), list[IO[bytes]]()
    text = msgspec.json.encode(spec).decode()
    try:
        for number in range(parts):
            outputs.append(tempfile.TemporaryFile())  # noqa: SIM115 - closed below
            arguments = [text, f"{number}/{parts}", str(folder / f"{number:05d}")]
            children.append(ChildProcess(MODULE, arguments, environment=STEADY_MEMORY, stdout=outputs[-1]))
        for child in children:
            while (code := child.wait(POLL_SECONDS)) is None:
                if stopping():
                    return None
            if code < 0:
                raise RunFailed(f"a process of the fit was {describe_exit(code)}; the same command begins it again")
            if code:
                raise exit_error(code, child.tail(), f"a process of the fit ended with exit code {code}")
        return [_read(output) for output in outputs]
    finally:
        for child in children:
            child.close()
        for output in outputs:
            output.close()


def _read(output: IO[bytes]) -> TermCount:
    output.seek(0)
    return msgspec.json.decode(output.read(), type=TermCount)
