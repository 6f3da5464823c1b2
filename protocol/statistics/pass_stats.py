"""A pass in `stats.json`: SessionPass has the figures of one session, PassStats the sums of all."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from .histogram import Number
from .pass_statistics import BatchHistograms, PassStatistics, Split


class SessionPass(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one session: seconds rounded to milliseconds, rates to hundredths. Fields are in the order of the file."""

    vector: str
    model: str
    device: str
    chunks: int
    """Committed rows."""
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
    """Always empty here; `RunEnded` has it."""
    earlier: int | UnsetType = UNSET
    """Rows that earlier sessions committed. For the exporter only; not in the file."""
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
        """The figures as PassStatistics, which can be added. Requires `histograms`."""
        return msgspec.convert(self, PassStatistics, from_attributes=True)


class PassStats(SessionPass, frozen=True, kw_only=True):
    """Figures of all sessions."""

    sessions: int
    """Number of sessions that computed a batch of the pass."""
    session: str
    """The last of these sessions, by its `run`; empty if there is none."""
    untimed: int = 0
    """Rows of sessions that were killed and left no figures."""
    truncated: int | UnsetType = UNSET
    """Texts that were cut; UNSET for a pass without a limit of tokens."""
    truncated_share: float | UnsetType = UNSET
    tokens_cut: int | UnsetType | None = UNSET
    tokens_cut_share: float | UnsetType | None = UNSET

    @classmethod
    def of_session(cls, found: SessionPass, session: str) -> PassStats:
        """The figures of the first session with figures. Rows that earlier ones committed are untimed."""
        sessions, name = (1, session) if found.batches else (0, "")
        record = msgspec.structs.asdict(msgspec.structs.replace(found, earlier=UNSET))
        return cls(**record, sessions=sessions, session=name, untimed=found.earlier or 0)

    @classmethod
    def none(cls, vector: str) -> PassStats:
        """The figures of a pass without any session."""
        return cls.of_session(describe_pass(vector, "", 0, 0, PassStatistics()), "")


def describe_pass(vector: str, model: str, chunks: int, earlier: int, found: PassStatistics) -> SessionPass:
    """The SessionPass for a session that computed `found`."""
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
