"""The texts of a batch as they come over the wire: one blob of UTF-8, and where each text begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]


class Texts(Sequence[str]):
    """A sequence of strings that are decoded when they are asked for.

    Text `i` is `blob[offsets[i]:offsets[i + 1]]`. ValueError if the offsets (n + 1) do not divide the blob into n parts.
    """

    __slots__ = ("blob", "offsets")

    def __init__(self, blob: Any, offsets: npt.NDArray[Any]) -> None:
        view, offsets = memoryview(blob), offsets.astype(np.int64, copy=False)
        if view.format != "B" or view.ndim != 1:
            raise ValueError(f"the texts are no bytes, but of format {view.format} in {view.ndim} dimensions")
        if not len(offsets) or offsets[0] or offsets[-1] != len(view) or (np.diff(offsets) < 0).any():
            raise ValueError(f"the offsets of {len(offsets) - 1} texts do not divide {len(view)} bytes")
        self.blob = view
        self.offsets: Offsets = offsets

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """These strings as Texts. UnicodeEncodeError if one has half of a surrogate pair."""
        return texts if isinstance(texts, Texts) else cls.join([text.encode() for text in texts])

    @classmethod
    def join(cls, parts: Sequence[bytes | memoryview]) -> Texts:
        """Texts from the bytes of each."""
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
        return cls(b"".join(parts), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        return (str(part, "utf-8") for part in self.parts())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One text, or a list of them. UnicodeDecodeError if the bytes are not UTF-8."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        return str(self.blob[self.offsets[row] : self.offsets[row + 1]], "utf-8")

    def parts(self) -> list[memoryview]:
        """The bytes of each text."""
        return [self.blob[start:stop] for start, stop in itertools.pairwise(self.offsets.tolist())]

    def sizes(self) -> Offsets:
        """The bytes (n) of each text."""
        return np.diff(self.offsets)

    def after(self, prompt: str) -> Texts:
        """The same texts with `prompt` before each."""
        before = prompt.encode()
        return Texts.join([before + part for part in self.parts()]) if before else self
