"""PassStatistics: what workers computed of one pass in one session. Sessions can be added up."""

from __future__ import annotations

import msgspec

from .histogram import LogHistogram


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Where the workers' time went, in seconds."""

    tokenize: float = 0.0
    forward: float = 0.0
    send: float = 0.0
    wait: float = 0.0
    """The forward pass was idle."""

    def __add__(self, other: Split) -> Split:
        return Split(
            tokenize=self.tokenize + other.tokenize,
            forward=self.forward + other.forward,
            send=self.send + other.send,
            wait=self.wait + other.wait,
        )

    def rounded(self) -> Split:
        """The same seconds, rounded to milliseconds."""
        return Split(
            tokenize=round(self.tokenize, 3),
            forward=round(self.forward, 3),
            send=round(self.send, 3),
            wait=round(self.wait, 3),
        )


class BatchHistograms(msgspec.Struct, kw_only=True):
    """Sizes and seconds of a pass's batches."""

    batch_seconds: LogHistogram = msgspec.field(default_factory=LogHistogram)
    """Tokenizing and computing one batch, in its worker."""
    batch_rows: LogHistogram = msgspec.field(default_factory=LogHistogram)
    batch_tokens: LogHistogram = msgspec.field(default_factory=LogHistogram)

    def __add__(self, other: BatchHistograms) -> BatchHistograms:
        return BatchHistograms(
            batch_seconds=self.batch_seconds + other.batch_seconds,
            batch_rows=self.batch_rows + other.batch_rows,
            batch_tokens=self.batch_tokens + other.batch_tokens,
        )


class PassStatistics(msgspec.Struct, kw_only=True):
    """Rows and tokens computed in this session, without those committed before. Times in seconds, memory in bytes."""

    computed: int = 0
    """Rows."""
    seconds: float = 0.0
    """From the first batch sent to the last result."""
    batches: int = 0
    tokens: int = 0
    padded: int = 0
    """Tokens computed, padding included."""
    row_errors: int = 0
    mitigations: int = 0
    peak_bytes: int = 0
    """The most that a worker held: reserved by torch on a GPU, resident memory on a CPU."""
    gpu_peak_bytes: int = 0
    """The most that was in use on a GPU by NVML's samples; 0 on a CPU."""
    rotation_gap_seconds: float | None = None
    dtype: str = ""
    placement: str = ""
    split: Split = Split()
    histograms: BatchHistograms = msgspec.field(default_factory=BatchHistograms)
    rows_by_device: dict[str, int] = {}

    def count_batch(self, device: str, rows: int, tokens: int, padded: int, errors: int, split: Split) -> None:
        """Add a computed batch."""
        self.computed += rows
        self.batches += 1
        self.tokens += tokens
        self.padded += padded
        self.row_errors += errors
        self.split += split
        self.histograms.batch_seconds.add(split.tokenize + split.forward)
        self.histograms.batch_rows.add(rows)
        self.histograms.batch_tokens.add(tokens)
        self.rows_by_device[device] = self.rows_by_device.get(device, 0) + rows

    def __add__(self, later: PassStatistics) -> PassStatistics:
        """The sum of two sessions, with the later one's dtype and placement."""
        gaps = [one.rotation_gap_seconds for one in (self, later) if one.rotation_gap_seconds is not None]
        devices = dict.fromkeys([*self.rows_by_device, *later.rows_by_device])
        return PassStatistics(
            computed=self.computed + later.computed,
            seconds=self.seconds + later.seconds,
            batches=self.batches + later.batches,
            tokens=self.tokens + later.tokens,
            padded=self.padded + later.padded,
            row_errors=self.row_errors + later.row_errors,
            mitigations=self.mitigations + later.mitigations,
            peak_bytes=max(self.peak_bytes, later.peak_bytes),
            gpu_peak_bytes=max(self.gpu_peak_bytes, later.gpu_peak_bytes),
            rotation_gap_seconds=max(gaps, default=None),
            dtype=later.dtype,
            placement=later.placement,
            split=self.split + later.split,
            histograms=self.histograms + later.histograms,
            rows_by_device={
                name: self.rows_by_device.get(name, 0) + later.rows_by_device.get(name, 0) for name in devices
            },
        )

    @property
    def device(self) -> str:
        """The devices that computed rows, separated by commas."""
        return ", ".join(self.rows_by_device)

    @property
    def chunks_per_second(self) -> float:
        """Rows per second; 0 before the first result."""
        return self.computed / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second, without padding; 0 before the first result."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def padding(self) -> float:
        """The share of padding in the tokens computed, 0 to 1."""
        return 1 - self.tokens / self.padded if self.padded else 0.0
