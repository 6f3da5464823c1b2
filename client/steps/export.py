"""`embedfleet export`: start the exporter on a finished run."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ...protocol.errors import EXIT_INTERRUPTED, EmbedfleetError
from ...protocol.finished_run.done_run import open_done_run
from ...protocol.process.child import STEADY_MEMORY, ChildProcess, exit_error
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.exports import read_export
from ..arguments import run_folder
from ..output.messages import messages
from ..run_directory.files import read_spec

POLL_SECONDS = 3600.0
STOP_SECONDS = 10.0


def export_quietly(root: Path, formats: list[str], quantization: str | None) -> dict[str, Path]:
    """Export as `export` does, without printing. Return the files in the folder `export`, by name."""
    layout = open_done_run(root).layout
    with _started(layout, formats, quantization, quiet=True) as child:
        code = _wait(child)
        stderr = child.tail()
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if code != 0:
        raise exit_error(code, stderr, f"{root}: the exporter ended with {code}; export again")
    record = read_export(layout)
    return {one.name: layout.export / one.name for one in record.files} if record is not None else {}


def export(root: Path, formats: list[str], quantization: str | None, *, as_json: bool) -> int:
    """Export the run in `root` in the named `formats` (empty: all that apply), and return the exit code.

    The process writes its own messages to standard error, with --quiet errors alone. With `as_json`, `export.json` is printed
    at the end.
    """
    layout = RunLayout(run_folder(root))
    read_spec(layout)  # raises if there is no run
    quiet = messages().settings.quiet
    with _started(layout, formats, quantization, quiet=quiet) as child:
        code = _wait(child)
        stderr = child.tail()
    if code < 0:
        raise EmbedfleetError(f"{root}: the exporter was killed by signal {-code}; export again")
    if quiet and code not in (0, EXIT_INTERRUPTED):
        raise exit_error(code, stderr, f"{root}: the exporter ended with {code}; export again")
    if code == 0 and as_json:
        sys.stdout.buffer.write(layout.export_record.read_bytes())
        sys.stdout.flush()
    return code


@contextmanager
def _started(
    layout: RunLayout, formats: list[str], quantization: str | None, *, quiet: bool
) -> Generator[ChildProcess]:
    arguments = [str(layout.root), f"--formats={','.join(formats)}"]
    if quantization is not None:
        arguments.append(f"--quantization={quantization}")
    child = ChildProcess("embedfleet.exporter.commands.export", arguments, environment=STEADY_MEMORY, quiet=quiet)
    try:
        yield child
    finally:
        child.close()


def _wait(child: ChildProcess) -> int:
    try:
        while (code := child.wait(POLL_SECONDS)) is None:
            pass
    except KeyboardInterrupt:
        child.interrupt()  # it removes the file that it is writing
        child.wait(STOP_SECONDS)
        return EXIT_INTERRUPTED
    return code
