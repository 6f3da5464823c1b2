"""Every error that a user can meet.

    EmbedfleetError            exit code 1
    ├── UsageError                  2   a flag or argument that cannot be used
    │   ├── SourceError             2   the corpus cannot be read
    │   ├── ModelError              2   a model cannot be found, is refused, or cannot be loaded
    │   ├── DeviceError             2   a device that is not there
    │   └── RunDirectoryError       2   the output folder cannot be used
    │       ├── SpecMismatch        2   the folder holds a run of another spec
    │       └── DamagedChunks       2   a chunk segment is not as it was written
    ├── RunFailed                   1   the run ended without all its rows
    ├── Unreachable                 1   no coordinator answers at the address
    └── ProtocolError               1   a peer sent what the protocol does not allow

A message says what is wrong, where (file, line, field or flag), and what to do about it.
"""

from __future__ import annotations

import os
import signal

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_QUARANTINED = 3
"""The run is done, but some rows are in quarantine."""
EXIT_INTERRUPTED = 130
"""Stopped by SIGINT; the same command resumes."""
EXIT_TERMINATED = 143
"""Stopped by SIGTERM; the same command resumes."""
EXIT_HUNG_UP = 129
"""Stopped by SIGHUP, as of a closed terminal; the same command resumes."""


class EmbedfleetError(Exception):
    """Base of all errors of this package. The command line ends with `exit_code`."""

    exit_code = EXIT_FAILED


class UsageError(EmbedfleetError):
    exit_code = EXIT_USAGE


class SourceError(UsageError):
    pass


class ModelError(UsageError):
    pass


class DeviceError(UsageError):
    pass


class RunDirectoryError(UsageError):
    pass


class SpecMismatch(RunDirectoryError):
    pass


class DamagedChunks(RunDirectoryError):
    """`segment` has to be read from the source again; `reason` says what is wrong with it."""

    def __init__(self, message: str, segment: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.segment, self.reason = segment, reason


class RunFailed(EmbedfleetError):
    pass


class Unreachable(EmbedfleetError):
    pass


class ProtocolError(EmbedfleetError):
    pass


_BY_NAME: dict[str, type[EmbedfleetError]] = {
    cls.__name__: cls
    for cls in (
        EmbedfleetError,
        UsageError,
        SourceError,
        ModelError,
        DeviceError,
        RunDirectoryError,
        SpecMismatch,
        DamagedChunks,
        RunFailed,
        Unreachable,
        ProtocolError,
    )
}


def error_from_name(kind: str, message: str) -> EmbedfleetError:
    """The exception for an error in a peer's message: `kind` is its class name. EmbedfleetError for an unknown name."""
    return _BY_NAME.get(kind, EmbedfleetError)(message)


def is_host_failure(error: BaseException | None) -> bool:
    """Whether the host failed, not the file: no memory, or an error of the operating system other than a missing file.

    Checks the error's causes too.
    """
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            return True
        error = error.__cause__
    return False


def unreadable(path: object, error: BaseException, damage: str) -> RunDirectoryError:
    """The error for a file of a run that could not be read. `damage` is the message for a file that is damaged; if the host
    failed instead, nothing is said against the file, which may be whole."""
    if not is_host_failure(error):
        return RunDirectoryError(damage)
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error) or type(error).__name__
    return RunDirectoryError(
        f"{path}: cannot be read now ({reason}); see to it that it can be read, and leave it there"
    )


def describe_exit(code: int | None) -> str:
    """How a process with this exit status ended, for a message."""
    if code is None or code >= 0:
        return f"exit code {code}"
    # a file that is mapped into memory has no page to be written to
    full = " (where the disk is full, make room)" if code == -signal.SIGBUS else ""
    return f"killed by signal {-code}{full}"
