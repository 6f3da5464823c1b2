"""A descriptor that cannot be written to: nothing is raised, and the reason is kept."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from embedfleet.protocol.process.standard_streams import DroppingOutput


def text_on(raw: DroppingOutput) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", line_buffering=True)


def test_what_can_be_written_arrives_whole(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        raw = DroppingOutput(log.fileno(), patient=False)
        stream = text_on(raw)
        lines = [f"line {number} " + "x" * 9_000 + "\n" for number in range(20)]
        for line in lines:
            stream.write(line)
        stream.detach()
    assert (tmp_path / "log").read_text() == "".join(lines)
    assert raw.error is None


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    raw = DroppingOutput(writer, patient=True)
    stream = text_on(raw)
    stream.write("nobody reads this\n" * 10_000)
    stream.detach()
    os.close(writer)
    assert raw.error is not None
    assert raw.error.errno == errno.EPIPE


def test_a_full_disk_is_no_error() -> None:
    with open("/dev/full", "wb") as full:
        raw = DroppingOutput(full.fileno(), patient=True)
        stream = text_on(raw)
        stream.write("no room\n")
        stream.detach()
    assert raw.error is not None
    assert raw.error.errno == errno.ENOSPC


def test_an_impatient_one_never_waits_for_a_reader_that_does_not_read() -> None:
    reader, writer = os.pipe()
    raw = DroppingOutput(writer, patient=False)
    stream = text_on(raw)
    begun = time.monotonic()
    for _ in range(200):
        stream.write("x" * 10_000 + "\n")
    assert time.monotonic() - begun < 10  # a pipe holds 64 KiB: the rest would wait for ever
    stream.detach()
    os.close(reader)
    os.close(writer)


GUARDED = """
import os, sys
from embedfleet.protocol.process.standard_streams import guard_standard_streams
output = guard_standard_streams()
with open(sys.argv[1], "w") as log:
    sys.stdout.write("data\\n")
    sys.stdout.flush()
    sys.stderr.write("message\\n")
    log.write(f"{log.fileno() > 2} {output.error is None}")
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_closed_descriptor_is_not_given_to_a_file_that_is_opened_next(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    shut: Callable[[], None] = close
    done = subprocess.run([sys.executable, "-c", GUARDED, str(tmp_path / "log")], preexec_fn=shut, check=False)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text() == "True True"
