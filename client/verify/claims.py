"""What the JSON files of a run claim, against what the segments add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout

T = TypeVar("T")


def read_claim(read: Callable[[RunLayout], T | None], layout: RunLayout, problems: list[str]) -> T | None:
    """What a file says; None where there is none, or where it is damaged, which is added to `problems`."""
    try:
        return read(layout)
    except RunDirectoryError as error:
        problems.append(str(error))
        return None


def differences(
    path: Path, claimed: msgspec.Struct, counted: Mapping[str, int | None], where: str = ""
) -> Iterator[str]:
    """The fields of `claimed` that are not as `counted`."""
    for name, value in counted.items():
        if getattr(claimed, name) != value:
            yield f"{path}: {where}{name} {getattr(claimed, name)}, but the files have {value}"
