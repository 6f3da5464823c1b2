"""The ranges of one pass's int8 vectors: found on a first sample of its rows, then fixed for the whole run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..protocol.storage import Ranges, calibrate
from .segment_builder import SegmentBuilder

SAMPLE_ROWS = 512
"""Rows with a vector that suffice; a run of fewer rows is calibrated on all of them."""
FEWEST_ROWS = 32
"""With fewer the widest ranges are taken: a sample of one row would clip all others to it."""
MOST_HELD = 2
"""Segments: so many may always be open at the coordinator, and no more need come while these wait."""

FloatArray = npt.NDArray[np.float32]

Held = list[tuple[int, SegmentBuilder]]


class Calibration:
    """Segments wait here until there are ranges for them; once `ranges` is set, none waits.

    What waits is what the coordinator lets be uncommitted: the first segment is always among the open ones, and one of
    SAMPLE_ROWS rows waits for nobody else.
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
            # From the first segment on, whichever came first: the vectors must not depend on what was slow, or was killed.
            first = dict(self._held)
            samples: list[FloatArray] = []
            rows = 0
            while len(samples) in first and len(samples) < MOST_HELD and rows < SAMPLE_ROWS:
                samples.append(first[len(samples)].dense_vectors())
                rows += len(samples[-1])
            whole = segments is not None and len(samples) >= segments
            if not samples or not (whole or rows >= SAMPLE_ROWS or len(samples) >= MOST_HELD):
                return []
            sample = np.concatenate(samples)
            self.ranges = calibrate(sample if whole or rows >= FEWEST_ROWS else sample[:0])
        released, self._held = self._held, []
        for _, builder in released:
            builder.set_ranges(self.ranges)
        return released
