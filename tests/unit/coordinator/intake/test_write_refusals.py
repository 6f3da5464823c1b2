"""Files of a run that cannot be written: the folder is named and not the source, and what helps."""

from __future__ import annotations

import errno
import re
import sqlite3
from pathlib import Path

import pytest
from embedfleet.coordinator.intake.failure import intake_failure
from embedfleet.coordinator.intake.id_index import MOST_PATH_BYTES, IdIndex
from embedfleet.protocol.errors import RunDirectoryError, describe_exit
from embedfleet.protocol.process.system_refusals import describe_write_failure
from embedfleet.protocol.run_directory.layout import RunLayout

LAYOUT = RunLayout(Path("/run"))
ARROWS = OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ARROWS,
            "chunks cannot be written: /run/chunks: No space left on device; make room and run the same command again",
        ),
        (
            OSError(errno.EDQUOT, "", "/run/intake/.counts.json.tmp"),
            "chunks cannot be written: /run/intake/.counts.json.tmp",
        ),
        (
            PermissionError(errno.EACCES, "", "/run/chunks/x"),
            "Permission denied; see to it that it can be written and run",
        ),
        (
            sqlite3.OperationalError("database or disk is full"),
            "/run/intake/.ids.sqlite: cannot be written .*; make room",
        ),
        (OSError(errno.EACCES, "", "/corpus"), "the source corpus cannot be read on: PermissionError"),
        (ZeroDivisionError("by zero"), "the source corpus cannot be read on: ZeroDivisionError: by zero"),
        (OSError("of no number"), "the source corpus cannot be read on: OSError: of no number"),
    ],
)
def test_a_folder_that_takes_no_chunks_is_not_the_sources_fault(error, told):
    said = intake_failure(error, "corpus", LAYOUT)
    assert re.search(told, said), said


def test_what_an_exporter_says():
    assert (
        describe_write_failure(ARROWS, "/run")
        == "/run: No space left on device; make room and run the same command again"
    )
    assert describe_write_failure(KeyError("x"), "/run") == "/run: KeyError: 'x'"


def test_a_file_that_was_removed_while_an_exporter_read_it(tmp_path: Path):
    remedy = "is gone; run the same command again, which makes it"
    assert describe_write_failure(FileNotFoundError(2, "no such file"), tmp_path) == f"a file of {tmp_path} {remedy}"
    assert describe_write_failure(FileNotFoundError(2, "", "/run/x"), tmp_path) == f"/run/x {remedy}"
    gone = tmp_path / "gone"
    assert describe_write_failure(FileNotFoundError(2, ""), gone).startswith(f"{gone}: No such file or directory; ")


def test_a_path_that_the_list_of_ids_cannot_have(tmp_path):
    folder = tmp_path
    while len(str(folder)) < MOST_PATH_BYTES - 60:
        folder /= "deep" * 12
    folder.mkdir(parents=True)
    longest = folder / ("x" * (MOST_PATH_BYTES - len(str(folder)) - 1))
    IdIndex(longest).close()
    with pytest.raises(
        RunDirectoryError, match=r"a path of 505 bytes, .* 504 at most; give a run directory with a shorter"
    ):
        IdIndex(longest.with_name(longest.name + "x"))


def test_how_a_process_ended():
    told = [describe_exit(code) for code in (0, 3, None, -9, -7)]
    assert told == [
        *("exit code 0", "exit code 3", "exit code None", "killed by signal 9"),
        "killed by signal 7 (where the disk is full, make room)",
    ]
