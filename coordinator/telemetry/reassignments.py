"""Reassignments: which worker has which batch, and whose rows another one gets because they never came back."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.actions import SendBatch


@dataclass(slots=True)
class Holding:
    """Rows `start` to `stop` of a segment, in the order in which it was cut, at a worker."""

    worker: str
    device: str
    start: int
    stop: int


class Reassignments:
    """Batches in flight. What a lost worker had stays here until others got it, whole or in halves."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], dict[int, Holding]] = {}
        """By pass and segment, and by batch."""

    def sent(self, action: SendBatch, device: str) -> Holding | None:
        """A batch goes to a worker; who had its rows before and did not hand them in."""
        held = self._held.setdefault((action.pass_index, action.segment), {})
        lost = next((batch for batch, one in held.items() if _has_rows_of(one, action)), None)
        before = held.get(lost) if lost is not None else None
        if lost is not None and before is not None:
            del held[lost]
            for start, stop in ((before.start, action.start), (action.stop, before.stop)):  # what is left of it
                if start < stop:
                    held[lost] = Holding(before.worker, before.device, start, stop)
        held[action.batch] = Holding(action.worker, device, action.start, action.stop)
        return before

    def handed_in(self, batch: int) -> None:
        """Its worker answered, with a result or with a failure: whoever gets its rows next, it was not lost."""
        for held in self._held.values():
            if held.pop(batch, None) is not None:
                return

    def committed(self, number: int, segment: int) -> None:
        """Nothing of the segment is in flight any more."""
        self._held.pop((number, segment), None)

    def clear(self) -> None:
        """What is in flight counts no more."""
        self._held.clear()


def _has_rows_of(one: Holding, action: SendBatch) -> bool:
    return one.worker != action.worker and one.start < action.stop and action.start < one.stop
