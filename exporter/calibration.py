"""The ranges of one pass's int8 vectors: found on a first sample of its rows, then fixed for the whole run."""

from __future__ import annotations

import numpy as np

from ..protocol.storage import Ranges, calibrate
from .segment_builder import SegmentBuilder

SAMPLE_ROWS = 512
"""Rows with a vector that suffice; a run of fewer rows is calibrated on all of them."""
FEWEST_ROWS = 32
"""With fewer the widest ranges are taken: a sample of one row would clip all others to it."""
MOST_HELD = 2
"""Segments: so many may always be open at the coordinator, and no more need come while these wait."""

Held = list[tuple[int, SegmentBuilder]]


class Calibration:
    """Segments wait here until there are ranges for them; once `ranges` is set, none waits.

    What waits is small: a segment of SAMPLE_ROWS rows waits for nobody.
    """

    def __init__(self, ranges: Ranges | None) -> None:
        self.ranges = ranges
        self._held: Held = []

    def hold(self, segment: int, builder: SegmentBuilder) -> None:
        """Keep an assembled segment."""
        self._held.append((segment, builder))

    def release(self, segments: int | None) -> Held:
        """The segments that may be written. `segments` is how many the run has; None: more may come."""
        if self.ranges is None:
            whole = segments is not None and len(self._held) >= segments
            samples = [builder.dense_vectors() for _, builder in self._held]
            rows = sum(map(len, samples))
            if not samples or not (whole or rows >= SAMPLE_ROWS or len(samples) >= MOST_HELD):
                return []
            sample = np.concatenate(samples)
            self.ranges = calibrate(sample if whole or rows >= FEWEST_ROWS else sample[:0])
        released, self._held = self._held, []
        for _, builder in released:
            builder.set_ranges(self.ranges)
        return released
