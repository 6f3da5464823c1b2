"""Common start and end of the exporter's commands."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..protocol.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EmbedfleetError, RunDirectoryError
from ..protocol.object_storage.mirror import follow_spool, unfollow_spool
from ..protocol.process import lifeline
from ..protocol.process.arrow import set_up_arrow
from ..protocol.process.child import ERROR_MARK
from ..protocol.process.standard_streams import guard_standard_error
from ..protocol.process.system_refusals import describe_system_error
from ..protocol.run_directory.directory_lock import drop_lock, take_lock
from ..protocol.run_directory.layout import RunLayout
from ..protocol.run_directory.own_files import find_wrong_kind, wrong_kind_error

T = TypeVar("T")


def serve(work: Callable[[], object]) -> int:
    """Do the work of a child process; return its exit code. An error is one line on standard error.

    Ignores SIGTERM and SIGHUP, since a scheduler signals every process of a job: the parent interrupts this process instead.
    """
    guard_standard_error()
    lifeline.hold()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    set_up_arrow()
    try:
        work()
    except EmbedfleetError as error:
        sys.stderr.write(f"{ERROR_MARK}{error}\n")
        return error.exit_code
    except OSError as error:  # before the directory is held, or after
        sys.stderr.write(f"{ERROR_MARK}{describe_system_error(error) or error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_DONE


def held(root: Path, work: Callable[[], T], again: str = "run the same command again") -> T:
    """Do the work while this process holds the run directory `root`. An OSError becomes an EmbedfleetError."""
    if (odd := find_wrong_kind(RunLayout(root))) is not None:
        raise wrong_kind_error(odd)
    try:
        lock = take_lock(RunLayout(root), str(root))
        mirror = follow_spool(root.absolute())
    except OSError as error:
        raise RunDirectoryError(f"{root}: {error.strerror or error}; give a folder that can be written") from error
    try:
        return work()
    except OSError as error:
        where = error.filename or root
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise EmbedfleetError(f"{where}: {error.strerror or error}; {remedy} and {again}") from error
    except (EmbedfleetError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # pyarrow and the engine may raise anything, even panics; people get one message
        raise EmbedfleetError(f"{root}: {type(error).__name__}: {error}") from error
    finally:
        unfollow_spool(mirror)
        drop_lock(lock)
