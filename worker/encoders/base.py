"""The interface of an encoder, and the parts that encoders share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...protocol.errors import ModelError
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.arrays import Array

IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


WORD_CACHE_OFF = "word_cache_off"
"""How the reason of a Mitigation begins: the cache of words gave other tokens than the library, which takes over."""


class OutOfMemory(Exception):
    """The device had no memory for a micro-batch. Its memory is freed again, so a smaller one may be tried."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch of n texts, tokenized. `lengths` (n) counts tokens, special ones included, after truncation."""

    lengths: IntArray
    truncated: BoolArray
    items: Any
    """Input of the encoder's `compute`."""
    cut: IntArray
    """Tokens (n) that truncation removed: 0 for an uncut text, estimated for a very long one, -1 if not counted."""


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Tokens of a micro-batch with padding: the initial size, and the largest that is worth trying."""

    initial: int
    ceiling: int
    climbs: bool = False
    """Whether it is doubled while that makes the computation faster, and not grown slowly."""


class Launched(Protocol):
    """A micro-batch that the device computes."""

    def collect(self) -> Any:
        """The vectors of its rows, once they are computed; waits for no other micro-batch. Raises OutOfMemory. Call it once."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """A micro-batch that was computed when it was launched."""

    part: Any

    def collect(self) -> Any:
        return self.part


class Encoder(Protocol):
    """One model. `prepare` runs in a thread of its own beside the other calls. A *stream* is a thread that launches
    micro-batches, and collects them in the same order; calls of up to `most_streams` streams overlap."""

    fingerprint: Fingerprint
    batch_tokens: int
    """A usual size of a batch from the coordinator, in estimated tokens."""
    row_bytes: int
    """Bytes of one row's result, estimated for sparse ones."""
    budget: TokenBudget
    pads: bool
    """Whether rows computed together are padded to the longest."""
    most_streams: int
    """How many threads may compute at the same time."""
    depth: int
    """How many micro-batches of one stream may be open: launched, and not collected."""

    def hydrate(self) -> str:
        """Move the weights to the device. Returns their device and dtype, for the record."""
        ...

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Tokenize."""
        ...

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        """Begin to compute the vectors of these rows, longest first. Raises OutOfMemory, and then holds no memory for them."""
        ...

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        """The vectors of these rows: `launch` and `collect` in one."""
        ...

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        """As `compute`, but in float32: the second attempt for rows with unusable values. Others may be open meanwhile."""
        ...

    def fits(self, part: Any, count: int, /) -> bool:
        """Whether a `compute` result has the right shape for `count` rows. The other calls require it."""
        ...

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        """The results of all micro-batches as the arrays of one batch of `count` rows, in the batch's order."""
        ...

    def unusable(self, part: Any) -> BoolArray:
        """Which rows of a `compute` result are not finite or cannot be normalized."""
        ...

    def empty_too_large(self, part: Any, /) -> dict[int, str]:
        """Empty, in place, the multivectors of a `compute` result that are too large for a point of the engine.

        Returns a message with a remedy for each of these rows, by position.
        """
        ...


@runtime_checkable
class Notifies(Protocol):
    """An encoder that tells when it goes on in another way. `notify` takes the reason of a Mitigation, in any thread."""

    notify: Callable[[str], None]


def ignore(_reason: str) -> None:
    """A `notify` for where nobody listens."""


def kept_dim(spec: PassSpec, dim: int) -> int:
    """How many of a model's `dim` leading components the pass keeps. ModelError if it wants more.

    Source: Kusupati et al. 2022, "Matryoshka Representation Learning".
    """
    if spec.truncate_dim is not None and spec.truncate_dim > dim:
        raise ModelError(f"--truncate-dim {spec.truncate_dim}: the vectors of {spec.model} have {dim} dimensions")
    return dim if spec.truncate_dim is None else spec.truncate_dim


def shape_of(array: Any) -> tuple[int, ...] | None:
    """The shape of an array; None for anything else."""
    return getattr(array, "shape", None)


class Immediate(ABC):
    """`launch` for encoders without a device of their own: it computes."""

    depth = 1

    @abstractmethod
    def compute(self, prepared: Prepared, rows: IntArray) -> Any: ...

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        return Finished(self.compute(prepared, rows))


class PointResults:
    """Results that always fit into a point."""

    most_streams = 1

    def empty_too_large(self, _part: Any, /) -> dict[int, str]:
        return {}


class DenseResults(PointResults):
    """`fits`, `gather` and `unusable` for encoders whose `compute` returns (rows, dim) float32."""

    fingerprint: Fingerprint

    def fits(self, part: Any, count: int, /) -> bool:
        return shape_of(part) == (count, self.fingerprint.dim)

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        vectors = np.full((count, self.fingerprint.dim), np.nan, np.float32)
        for rows, part in parts:
            vectors[rows] = part
        return {"vector": vectors}

    def unusable(self, part: Any) -> BoolArray:
        squares = np.einsum("ij,ij->i", part, part)
        return ~(np.isfinite(squares) & (squares > 0))


class SparseResults(PointResults):
    """`fits`, `gather` and `unusable` for encoders whose `compute` returns a list of (indices, values), sorted by index."""

    def fits(self, part: Any, count: int, /) -> bool:
        return len(part) == count and all(
            shape_of(indices) == shape_of(values) == (len(indices),) for indices, values in part
        )

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        placed: list[tuple[Array, Array]] = [(np.empty(0, np.uint32), np.empty(0, np.float32))] * count
        for rows, part in parts:
            for row, vector in zip(rows.tolist(), part, strict=True):
                placed[row] = vector
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum([len(indices) for indices, _ in placed], out=offsets[1:])
        return {
            "offsets": offsets,
            "indices": np.concatenate([indices for indices, _ in placed]) if placed else np.empty(0, np.uint32),
            "values": np.concatenate([values for _, values in placed]) if placed else np.empty(0, np.float32),
        }

    def unusable(self, part: Any) -> BoolArray:
        return np.array([not np.isfinite(values).all() for _, values in part], np.bool_)


class ScoreResults(PointResults):
    """`fits`, `gather` and `unusable` for encoders whose `compute` returns (rows,) float32."""

    def fits(self, part: Any, count: int, /) -> bool:
        return shape_of(part) == (count,)

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        scores = np.full(count, np.nan, np.float32)
        for rows, part in parts:
            scores[rows] = part
        return {"score": scores}

    def unusable(self, part: Any) -> BoolArray:
        return ~np.isfinite(part)
