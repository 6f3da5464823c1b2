"""`embedfleet export`: the exporter, started on a run that is done."""

from __future__ import annotations

import sys
from pathlib import Path

from ..protocol.errors import EXIT_INTERRUPTED, EmbedfleetError
from ..protocol.layout import RunLayout
from ..protocol.process import STEADY_MEMORY, ChildProcess
from .run_files import read_spec

POLL_SECONDS = 3600.0
STOP_SECONDS = 10.0


def export(root: Path, formats: list[str], quantization: str | None, *, as_json: bool) -> int:
    """Export the run in `root` in the formats named (none: all that apply); the exit code.

    The process writes its own messages to standard error; with `as_json`, `export.json` is printed at the end.
    """
    layout = RunLayout(root)
    read_spec(layout)  # no process for a folder that holds no run
    arguments = [str(root), f"--formats={','.join(formats)}"]
    if quantization is not None:
        arguments.append(f"--quantization={quantization}")
    child = ChildProcess("embedfleet.exporter.export_main", arguments, environment=STEADY_MEMORY, quiet=False)
    try:
        code = _wait(child)
    finally:
        child.close()
    if code < 0:
        raise EmbedfleetError(f"{root}: the exporter was killed by signal {-code}; export again")
    if code == 0 and as_json:
        sys.stdout.buffer.write(layout.export_record.read_bytes())
        sys.stdout.flush()
    return code


def _wait(child: ChildProcess) -> int:
    try:
        while (code := child.wait(POLL_SECONDS)) is None:
            pass
    except KeyboardInterrupt:
        child.interrupt()  # it removes the file that it is writing
        child.wait(STOP_SECONDS)
        return EXIT_INTERRUPTED
    return code
