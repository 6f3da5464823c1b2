"""Rotations: how long a device had no work between two passes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rotation:
    """From the last result of the pass `before` on a device to the first batch of the next one, in seconds."""

    before: int
    gap: float


class Rotations:
    """Passes by their index. `now` is a steady clock's, in seconds."""

    def __init__(self) -> None:
        self._last_result: dict[str, tuple[int, float]] = {}
        """By device: the pass it worked for last, and when its last result came."""

    def result(self, device: str, pass_index: int, now: float) -> None:
        """Note a batch that a device has computed."""
        self._last_result[device] = (pass_index, now)

    def batch_sent(self, device: str, pass_index: int, now: float) -> Rotation | None:
        """Note a batch for a device. Return a Rotation if it is the first of another pass."""
        before, last = self._last_result.get(device, (pass_index, now))
        if before == pass_index:
            return None
        del self._last_result[device]
        return Rotation(before, now - last)
