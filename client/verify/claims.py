"""Compare the counts in the JSON files of a run with those of its segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout

T = TypeVar("T")


def read_claim(read: Callable[[RunLayout], T | None], layout: RunLayout, problems: list[str]) -> T | None:
    """The record that `read` returns; None if its file is missing, or damaged, which adds to `problems`."""
    try:
        return read(layout)
    except RunDirectoryError as error:
        problems.append(str(error))
        return None


def differences(
    path: Path, claimed: msgspec.Struct, counted: Mapping[str, int | None], where: str = ""
) -> Iterator[str]:
    """A problem for each field of `claimed` that differs from `counted`."""
    for name, value in counted.items():
        if getattr(claimed, name) != value:
            yield f"{path}: {where}{name} {getattr(claimed, name)}, but the files have {value}"
