"""Plan a run from its spec and the devices: which passes need a GPU, their dtypes, and how large segments and batches are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ...protocol.run_directory.records.intake import SegmentLimits
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.known_models import known_dim
from ...protocol.spec.run_spec import CPU_KINDS, FORMS, Dtype, PassSpec, RunSpec
from ...protocol.vectors.metadata_terms import METADATA_WEIGHTS
from ...protocol.wire.devices import Device, common_dtype
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from ..core.events import PassPlan

SLOW_LIMITS = SegmentLimits(rows=2_048, tokens=131_072, first_rows=64)
"""For real models on a CPU, where a million tokens take minutes: a segment is the unit of resume. The first ones are smaller
still, so that a run that is interrupted early has something to keep."""

MULTIVECTOR_BYTES = 256 << 20
"""Upper bound for a segment's multivectors in float16, by its estimated tokens. Two such segments may be open and three wait
for the disk, so it determines the exporter's memory."""
BATCH_BYTES = 64 << 20
"""Upper bound for the multivectors of a batch, likewise, and for its result by the bytes that a worker expects of a row."""
BYTES_A_NUMBER = 2
HEADS_DIM, TOKEN_DIM = 1_024, 128
"""Assumed dimensions of a token's vector if the model's name does not determine them: those of bge-m3, and those of ColBERT
and most models after it. A wider model in a folder only takes proportionally more memory."""
TOKENS_A_ROW = 16
"""A segment limited by MULTIVECTOR_BYTES has at most one row for so many tokens: each text has special tokens too."""

PARTS = 16
"""A batch has at least a sixteenth of the tokens that its encoder usually takes, and at most so many times as many."""
FIXED_PARTS = 4
"""Where batches are fixed, they have a quarter: small enough to be prompt, large enough for several micro-batches."""
MAX_CUT_ROWS, MAX_BATCH_ROWS = 4_096, 16_384

NO_WEIGHTS = (
    f"--sparse metadata: no chunk has {METADATA_WEIGHTS}, a list of objects with a term and a positive weight; "
    "leave the flag out, or give a model"
)
"""Error of a run with a pass of metadata weights alone."""


def plan_passes(spec: RunSpec, options: RunOptions = DEFAULTS) -> tuple[PassPlan, ...]:
    """What the pool needs to know of each pass."""
    return tuple(
        PassPlan(
            one.vector,
            cpu_only=_on_cpu(one, options),
            gpu_only=one.kind == "sparse" and options.sparse_device == "gpu",
            fallback=one.kind == "sparse" and one.fallback,
            after_intake=one.needs_average_length,
            light=one.kind in CPU_KINDS,
            given_up="the weights are those of the metadata" if one.kind == "metadata" else "",
            without=NO_WEIGHTS if one.kind == "metadata" and one.side == "document" else "",
            loads=_loads(one, options),
        )
        for one in spec.passes
    )


def _on_cpu(one: PassSpec, options: RunOptions) -> bool:
    return one.kind in CPU_KINDS or (one.kind == "sparse" and options.sparse_device == "cpu")


def _loads(one: PassSpec, options: RunOptions) -> str:
    """A text that is equal for two passes whose workers load the same model in the same way. Empty if this is known only once
    the corpus is read."""
    if one.needs_average_length:
        return ""
    return msgspec.json.encode((one, options.backend, _on_cpu(one, options))).decode()


def segment_limits(spec: RunSpec, devices: Sequence[Device]) -> SegmentLimits:
    """Limits that keep segments small, so that a resume repeats little and multivectors fit, yet worth sorting."""
    slow = any(not one.model.startswith("fake:") and one.kind not in CPU_KINDS for one in spec.passes)
    limits = SLOW_LIMITS if slow and not any(device.kind == "cuda" for device in devices) else SegmentLimits()
    widest = max((_token_bytes(one) for one in spec.passes if "multivector" in FORMS[one.kind]), default=1.0)
    tokens = int(MULTIVECTOR_BYTES / widest)
    if tokens >= limits.tokens:
        return limits
    rows = min(limits.rows, max(1, tokens // TOKENS_A_ROW))
    return msgspec.structs.replace(limits, rows=rows, tokens=tokens)


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Sizes of a pass's batches, in estimated tokens and in rows."""

    cut_tokens: int
    cut_rows: int
    """Of the smallest batch."""
    most_tokens: int
    most_rows: int
    """Of the largest one; 0: every batch is as small as possible."""


def batch_sizes(one: PassSpec, usual: int, row_bytes: int, *, fixed: bool) -> BatchSizes:
    """The sizes of batches for an encoder that usually takes so many tokens and expects so many bytes of a row's result.

    `fixed`: the numbers of a row depend on its batch, and must be the same in every run.
    """
    most = usual * PARTS
    if "multivector" in FORMS[one.kind]:
        most = min(most, int(BATCH_BYTES / _token_bytes(one)))
    cut = min(usual // (FIXED_PARTS if fixed else PARTS), most)
    rows = max(BATCH_BYTES // max(row_bytes, 1), 1)
    bounds = (0, 0) if fixed else (most, min(rows, MAX_BATCH_ROWS))
    return BatchSizes(max(cut, 1), min(rows, MAX_CUT_ROWS), *bounds)


def _token_bytes(one: PassSpec) -> float:
    """Bytes of the vector of one token, or of its share in a pooled vector."""
    dim = known_dim(one) or (HEADS_DIM if one.kind == "bge-m3" else TOKEN_DIM)
    return dim * BYTES_A_NUMBER / one.pool_factor


def choose_dtype(
    one: PassSpec,
    before: Fingerprint | None,
    devices: Sequence[Device],
    options: RunOptions = DEFAULTS,
) -> PassSpec:
    """The pass with one dtype for all its workers: that of the committed segments, else one that suits every device."""
    if one.dtype != "auto" or one.kind in CPU_KINDS or one.model.startswith("fake:"):
        return one
    common: Dtype = "float32" if _on_cpu(one, options) else common_dtype(devices)
    return msgspec.structs.replace(one, dtype=_dtype_of(before) or common)


def _dtype_of(before: Fingerprint | None) -> Dtype | None:
    match before.dtype if before is not None else "":
        case "float32" | "bfloat16" | "float16" as known:
            return known
        case _:
            return None
