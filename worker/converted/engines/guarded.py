"""Recognise out of memory, however a library reports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...encoders.base import OutOfMemory

T = TypeVar("T")
NO_MEMORY = (
    "bad_alloc",
    "not enough memory",
    "cannot allocate memory",
    "can't allocate memory",
    "failed to allocate memory",
    "smaller than requested bytes",
)
"""Lower-case words of the libraries' messages for out of memory."""


def guarded(step: Callable[[], T]) -> T:
    """The result of a step of a library. OutOfMemory if there is not enough memory."""
    try:
        return step()
    except MemoryError as error:
        message = str(error) or "no memory"
    except Exception as error:
        if not says_no_memory(error):
            raise
        message = str(error).strip().split("\n")[-1]
    raise OutOfMemory(message)


def says_no_memory(error: Exception) -> bool:
    """Whether a library's error says that memory did not suffice."""
    return any(words in str(error).lower() for words in NO_MEMORY)
