"""Numbers for a message."""

from __future__ import annotations

from collections.abc import Sequence


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers in few words: `0, 3-7, 9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
