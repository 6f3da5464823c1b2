"""Only local paths are supported: refuse empty paths and addresses of object stores."""

from __future__ import annotations

import re
from os import PathLike

from ..errors import EmbedfleetError, UsageError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""One slash is enough: a `Path` drops the second."""


def check_local(path: str | PathLike[str], what: str, error: type[EmbedfleetError] = UsageError) -> None:
    """Raise `error` for `s3://bucket/key` and the like, and for an empty path; `what` is the flag or argument.

    `./s3:/…` and absolute paths are local.
    """
    text = str(path)
    if not text:  # for example from an unset variable; Path('') would be the current folder
        raise error(f"{what} '': is empty; give a path, or . for the folder that you are in")
    if (found := _SCHEME.match(text)) is None:
        return
    scheme, rest = found[0][:-2], text[found.end() :].lstrip("/")
    if scheme.lower() == "file":
        raise error(f"{what} {scheme}:///{rest}: give the path alone: /{rest}")
    raise error(
        f"{what} {scheme}://{rest}: only local paths are read and written; copy or mount it, and give that path"
    )
