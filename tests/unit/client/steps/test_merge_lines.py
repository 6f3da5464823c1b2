"""A merge is stopped by a signal while its process says nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from embedfleet.client.steps import merge


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for one in (reader, writer):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(one)


def test_lines_come_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = merge._lines(reader, lambda: False)
    os.write(writer, b"one\ntw")
    assert next(lines) == b"one"
    os.write(writer, b"o\nthree\n")
    os.close(writer)
    assert list(lines) == [b"two", b"three"]


def test_a_quiet_process_does_not_hide_a_signal(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "POLL_SECONDS", 0.001)
    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        next(merge._lines(pipe[0], lambda: next(asked)))
