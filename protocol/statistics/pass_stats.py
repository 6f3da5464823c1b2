"""A pass in `stats.json`: SessionPass is what one session says of it, PassStats what all sessions together came to."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from .histogram import Number
from .pass_statistics import BatchHistograms, PassStatistics, Split


class SessionPass(msgspec.Struct, frozen=True, kw_only=True):
    """One session's. Rounded: seconds to milliseconds, rates to hundredths. The fields are in the order of the file."""

    vector: str
    model: str
    device: str
    chunks: int
    """Rows that are committed."""
    chunks_per_second: float
    tokens_per_second: float
    padding: float
    """The share of padding in the tokens computed, 0 to 1."""
    rotation_gap_seconds: float | None
    computed: int
    seconds: float
    batches: int
    peak_bytes: int
    gpu_peak_bytes: int
    dtype: str
    placement: str
    batch_seconds: dict[str, Number]
    weights: str
    """Empty: the end of the run says it."""
    earlier: int | UnsetType = UNSET
    """Rows that earlier sessions committed; for the exporter, and not in the file."""
    tokens: int
    padded: int
    row_errors: int
    split: Split
    batch_rows: dict[str, Number]
    batch_tokens: dict[str, Number]
    histograms: BatchHistograms | UnsetType = UNSET
    mitigations: int
    rows_by_device: dict[str, int]

    @property
    def statistics(self) -> PassStatistics:
        """What can be added up. The histograms have to be there."""
        return msgspec.convert(self, PassStatistics, from_attributes=True)


class PassStats(SessionPass, frozen=True, kw_only=True):
    """All sessions'."""

    sessions: int
    """How many computed a batch of the pass."""
    session: str
    """The last of them, as in `run`; empty where there is none."""
    untimed: int = 0
    """Rows of sessions that were killed, and left no figures."""
    truncated: int | UnsetType = UNSET
    """Texts that were cut; not of a pass that takes texts of any length."""
    truncated_share: float | UnsetType = UNSET
    tokens_cut: int | UnsetType | None = UNSET
    tokens_cut_share: float | UnsetType | None = UNSET

    @classmethod
    def of_session(cls, found: SessionPass, session: str) -> PassStats:
        """The first session; what earlier ones committed is untimed."""
        sessions, name = (1, session) if found.batches else (0, "")
        record = msgspec.structs.asdict(msgspec.structs.replace(found, earlier=UNSET))
        return cls(**record, sessions=sessions, session=name, untimed=found.earlier or 0)

    @classmethod
    def none(cls, vector: str) -> PassStats:
        """Of a pass that no session left figures of."""
        return cls.of_session(describe_pass(vector, "", 0, 0, PassStatistics()), "")


def describe_pass(vector: str, model: str, chunks: int, earlier: int, found: PassStatistics) -> SessionPass:
    """What a session that computed `found` says of a pass."""
    histograms = BatchHistograms() + found.histograms
    return SessionPass(
        vector=vector,
        model=model,
        device=found.device,
        chunks=chunks,
        chunks_per_second=round(found.chunks_per_second, 2),
        tokens_per_second=round(found.tokens_per_second, 2),
        padding=round(found.padding, 4),
        rotation_gap_seconds=None if found.rotation_gap_seconds is None else round(found.rotation_gap_seconds, 3),
        computed=found.computed,
        seconds=round(found.seconds, 3),
        batches=found.batches,
        peak_bytes=found.peak_bytes,
        gpu_peak_bytes=found.gpu_peak_bytes,
        dtype=found.dtype,
        placement=found.placement,
        batch_seconds=histograms.batch_seconds.summary(6),
        weights="",
        earlier=earlier,
        tokens=found.tokens,
        padded=found.padded,
        row_errors=found.row_errors,
        split=found.split.rounded(),
        batch_rows=histograms.batch_rows.summary(1),
        batch_tokens=histograms.batch_tokens.summary(1),
        histograms=histograms,
        mitigations=found.mitigations,
        rows_by_device=dict(found.rows_by_device),
    )
