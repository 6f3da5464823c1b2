"""A cached tokenizer that is compared with the library from time to time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cached import CachedTokenizer
from .flat import FlatTokens
from .library import LibraryTokenizer
from .texts import Texts

FIRST = 4
"""So many batches are compared at the beginning: a model's warm-up, and its first texts."""
EVERY = 1_000
"""After that, one batch in as many."""


class CheckedTokenizer:
    """Uses the cache until a batch differs from the library's or cannot be computed; from then on, the library.

    The batch itself is the library's. `on_difference` is called once, with the reason.
    """

    def __init__(
        self,
        cached: CachedTokenizer,
        library: LibraryTokenizer,
        on_difference: Callable[[str], None],
        first: int = FIRST,
        every: int = EVERY,
    ) -> None:
        self._cached: CachedTokenizer | None = cached
        self._library = library
        self._on_difference, self._first, self._every = on_difference, first, every
        self._batches = 0

    def encode(self, texts: Texts, seconds: Texts | None = None, prompt: str = "") -> FlatTokens:
        """As LibraryTokenizer."""
        if self._cached is None:
            return self._library.encode(texts, seconds, prompt)
        compared = self._batches < self._first or self._batches % self._every == 0
        self._batches += 1
        try:
            found = self._cached.encode(texts, seconds, prompt)
        except Exception as error:  # noqa: BLE001 - a text that the library refuses too, or a fault of the cache
            expected = self._library.encode(texts, seconds, prompt)
            return self._give_up(f"{type(error).__name__}: {error}", expected)
        if not compared:
            return found
        expected = self._library.encode(texts, seconds, prompt)
        row = first_difference(found, expected)
        return found if row is None else self._give_up(f"row {row} of {len(texts)} differs", expected)

    def _give_up(self, reason: str, expected: FlatTokens) -> FlatTokens:
        self._cached = None
        self._on_difference(reason)
        return expected


def first_difference(found: FlatTokens, expected: FlatTokens) -> int | None:
    """The first row in which two batches differ; None if they are equal."""
    same = (found.lengths == expected.lengths) & (found.truncated == expected.truncated) & (found.cut == expected.cut)
    if not same.all():
        return int(np.argmin(same))
    differ = found.ids != expected.ids
    for one, other in ((found.types, expected.types), (expected.types, found.types)):
        if one is not None:
            differ |= one != (other if other is not None else 0)
    at = np.flatnonzero(differ)
    return int(np.searchsorted(np.cumsum(found.lengths), at[0], side="right")) if len(at) else None
