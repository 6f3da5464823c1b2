"""Turn an unexpected error of the operating system into one line, with its remedy."""

from __future__ import annotations

import errno
import os


def describe_system_error(error: Exception) -> str | None:
    """One line for an error of the operating system or of ZeroMQ; None for any other error, which is a bug."""
    number = getattr(error, "errno", None)
    if not isinstance(number, int):
        return None
    why, name = getattr(error, "strerror", None) or str(error), getattr(error, "filename", None)
    if name is None and number == errno.ENOENT and not _folder_stands():
        return "the current folder is gone; change to another one (cd)"
    if "temporary directory" in why:
        return f"{why}; set TMPDIR to a folder that can be written"
    if number == errno.EMFILE:
        why += "; allow more (ulimit -n 1024)"
    return f"{name}: {why}" if name is not None else why


def describe_write_failure(error: BaseException, folder: str | os.PathLike[str]) -> str:
    """The message for a failed write below `folder`: the file if the error names one, the reason, and a remedy."""
    if not isinstance(error, OSError) or error.errno is None:
        return f"{folder}: {type(error).__name__}: {error}"
    if error.errno == errno.ENOENT and os.path.isdir(folder):  # one that was read: Arrow's error does not name it
        return f"{error.filename or f'a file of {folder}'} is gone; run the same command again, which makes it"
    remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see to it that it can be written"
    return f"{error.filename or folder}: {os.strerror(error.errno)}; {remedy} and run the same command again"


def _folder_stands() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
