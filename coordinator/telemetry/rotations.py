"""Rotations: how long a device was without work between two passes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rotation:
    """From the last result of the pass `before` on a device to the first batch of the next one, in seconds."""

    before: int
    gap: float


class Rotations:
    """`now` is any steady clock's, in seconds; passes by their index."""

    def __init__(self) -> None:
        self._last_result: dict[str, tuple[int, float]] = {}
        """By device: the pass it worked for last, and when its last result came."""

    def result(self, device: str, pass_index: int, now: float) -> None:
        """A device has computed a batch."""
        self._last_result[device] = (pass_index, now)

    def batch_sent(self, device: str, pass_index: int, now: float) -> Rotation | None:
        """A device gets a batch; the first one of another pass than before is a rotation."""
        before, last = self._last_result.get(device, (pass_index, now))
        if before == pass_index:
            return None
        del self._last_result[device]
        return Rotation(before, now - last)
