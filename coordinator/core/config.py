"""The pool's limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Limits of the pool. Seconds and bytes."""

    first_epoch: int = 1
    """Epoch of the first lease. A restarted coordinator must not reuse the epochs of the one before it."""
    credit: int = 2
    """Batches in flight per worker: one computed, one waiting."""
    batch_seconds: float = 0.25
    """How long a batch should take its worker, by what the worker was measured to compute in a second."""
    hello_timeout: float = 60.0
    stage_timeout: float = 3600.0
    """Loading weights, a download from a hub included."""
    hydrate_timeout: float = 300.0
    release_timeout: float = 20.0
    silence_timeout: float = 30.0
    """Without a message from a worker."""
    loading_silence: float = 120.0
    """The same while it loads: importing libraries from a slow disk holds the interpreter's lock."""
    first_batch_timeout: float = 600.0
    """For a batch before the pass's speed is known; also the upper bound for any batch."""
    batch_timeout: float = 30.0
    """Lower bound for a batch once the speed is known."""
    batch_slowdown: float = 20.0
    """A batch may take this many times as long as the measured speed predicts."""
    death_timeout: float = 30.0
    """Between a kill and the report of the process's end; a process that hangs in a driver never ends."""
    device_failures: int = 3
    device_losses: int = 48
    """A poison row costs at most log2(batch) + 3 workers; so many in a row are the device's or the model's fault."""
    unexplained_losses: float = 10.0
    """Lost workers without a guilty row, less `forgiveness` for each result, at which their device is given up."""
    forgiveness: float = 0.1
    exporter_failures: int = 3
    backoff: float = 0.25
    """Pause after a device's first failure; doubled with each further one, up to `max_backoff`."""
    max_backoff: float = 30.0
    uncommitted_bytes: int = 256 << 20
    """Cap on the results of segments that are cut and not committed; two segments may always be open."""
