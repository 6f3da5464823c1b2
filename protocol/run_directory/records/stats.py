"""`stats.json`: what the last session of a run was like, and what all sessions together took for each pass.

The exporter adds the sessions up (`exporter/run_directory/stats.py`). A session that was killed left no figures, and 0.1.0
fewer than later versions: so each field of a pass has a default.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout


class HistogramRecord(msgspec.Struct, frozen=True):
    """All that a `LogHistogram` counted, so that the next session can go on with it."""

    count: int = 0
    sum: float = 0.0
    least: int | float = 0.0
    most: int | float = 0.0
    buckets: dict[str, int] = {}


class PassStats(msgspec.Struct, frozen=True, kw_only=True):
    """One pass: sums and rates of all sessions that left figures; device, dtype and placement are the latest."""

    vector: str
    model: str = ""
    device: str = ""
    chunks: int = 0
    """Rows that are committed."""
    chunks_per_second: float = 0.0
    tokens_per_second: float = 0.0
    padding: float = 0.0
    """The share of padding in the tokens computed."""
    rotation_gap_seconds: float | None = None
    """The longest time in which a device had no batch between the pass before and this one."""
    computed: int = 0
    """Rows that a model computed."""
    seconds: float = 0.0
    batches: int = 0
    peak_bytes: int = 0
    gpu_peak_bytes: int = 0
    dtype: str = ""
    placement: str = ""
    batch_seconds: dict[str, float] = {}
    """`min`, `mean`, `max`, `p50`, `p95` and `p99`; also of the next two."""
    weights: str = ""
    """Of a sparse pass that the metadata has a part in: where its rows' weights are from, in words."""
    tokens: int = 0
    padded: int = 0
    """Tokens that were computed, padding included."""
    row_errors: int = 0
    split: dict[str, float] = {}
    """Seconds of the workers: `tokenize`, `forward`, `send`, `wait`."""
    batch_rows: dict[str, int | float] = {}
    batch_tokens: dict[str, int | float] = {}
    histograms: dict[str, HistogramRecord] = {}
    """Of the three above."""
    mitigations: int = 0
    """How often the micro-batch budget was changed, halvings on out-of-memory among them."""
    rows_by_device: dict[str, int] = {}
    sessions: int = 0
    """Sessions that computed a batch; `session` is the latest of them."""
    session: str = ""
    untimed: int = 0
    """Rows of sessions that left no figures."""
    truncated: int | None = None
    """This and the next three are those of the manifest."""
    truncated_share: float | None = None
    tokens_cut: int | None = None
    tokens_cut_share: float | None = None


class RunStats(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `stats.json`."""

    run: str = ""
    seconds: float = 0.0
    passes: tuple[PassStats, ...] = ()
    processing_stats: dict[str, Any] = {}
    """Samples of the `host`, and of the `passes` by vector and device: `min`, `mean` and `max` of what was sampled."""
    status: str = ""
    error: str = ""
    export_seconds: dict[str, float] = {}
    """Seconds of the exporter's threads: `commit`, `publish`."""

    def by_vector(self) -> dict[str, PassStats]:
        return {one.vector: one for one in self.passes}


def read_stats(layout: RunLayout) -> RunStats:
    """The figures; without any where the file is missing. RunDirectoryError where it is damaged."""
    return read_json(layout.stats, RunStats) or RunStats()
