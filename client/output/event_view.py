"""The events of a run as lines, while they are written to `events.jsonl`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.wire.control import Progress
from .messages import messages
from .progress import ProgressView


class EventView:
    """Shows what another view shows, and each new event of the run as a detail."""

    def __init__(self, view: ProgressView, path: Path) -> None:
        self._view, self._events = view, EventLines(path)

    def show(self, progress: Progress) -> None:
        self._view.show(progress)
        self._show_events()

    def say(self, text: str) -> None:
        self._view.say(text)

    def close(self) -> None:
        self._show_events()
        self._view.close()

    def _show_events(self) -> None:
        for line in self._events.take():
            messages().detail(line)


class EventLines:
    """Reads the events that come after it was made. A file that is written anew is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._position = 0, 0
        try:
            found = path.stat()
        except OSError:
            return
        self._inode, self._position = found.st_ino, found.st_size

    def take(self) -> Iterator[str]:
        """The events since the last call, such as `lease: vector dense-a, phase before`."""
        for line in self._whole_lines():
            try:
                yield _in_words(msgspec.json.decode(line))
            except (ValueError, LookupError, AttributeError):
                continue  # a damaged line stays in the file, where others can look at it

    def _whole_lines(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self._inode, self._position = found.st_ino, 0
                file.seek(self._position)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.splitlines()


def _in_words(event: dict[str, Any]) -> str:
    fields = ", ".join(f"{name} {_value(value)}" for name, value in event.items() if _is_shown(name, value))
    return f"{event['event']}: {fields}" if fields else str(event["event"])


def _is_shown(name: str, value: Any) -> bool:
    return name not in ("time", "event") and value is not None and value != ""


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else msgspec.json.encode(value).decode()
