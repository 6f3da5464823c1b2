"""Opens the fastest exact tokenizer for a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from .cached import CachedTokenizer
from .checked import CheckedTokenizer
from .flat import FlatTokens
from .library import LibraryTokenizer
from .supported import read
from .texts import Texts


class TextTokenizer(Protocol):
    """Turns batches of texts or pairs into token ids."""

    def encode(self, texts: Texts, seconds: Texts | None = None, prompt: str = "") -> FlatTokens:
        """The tokens of texts with the prompt before them, or of pairs of them and `seconds`."""
        ...


def open_tokenizer(
    source: Tokenizer | Path,
    limit: int,
    *,
    side: str = "right",
    on_difference: Callable[[str], None],
) -> TextTokenizer:
    """A tokenizer for rows of at most `limit` tokens that truncates at `side`. `source` may be a tokenizer.json.

    It has its own copy of the tokenizer. If that is of BERT's kind, its words are cached, and `on_difference` is called with a
    reason when the cache had to be given up. Not thread-safe.
    """
    tokenizer = source if isinstance(source, Tokenizer) else Tokenizer.from_file(str(source))
    library = LibraryTokenizer(tokenizer, limit, side)
    known = read(tokenizer)
    if isinstance(known, str):
        return library
    return CheckedTokenizer(CachedTokenizer(tokenizer, known, limit, side), library, on_difference)
