"""Sparse weights from the terms in a chunk's metadata, with indices that no model's vocabulary uses.

Chunks may have `metadata.sparse_features.term_weights`: a list of `{"term", "tf", "weight"}`. A model's indices are token ids,
far below 2^31; a term's index has bit 31 set. So one collection can hold rows of both kinds, and a query with both kinds of
indices finds both.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt

from ..text.preprocessing import preprocess

METADATA_WEIGHTS = "metadata.sparse_features.term_weights"
_BIT_31 = 1 << 31
_WORD = re.compile(r"\w+")

Weights = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]


def term_index(term: str) -> int:
    """The index of a term: bit 31, and 31 bits of its BLAKE2b hash. The term is normalized to NFC and case-folded first, as
    queries are; metadata are not normalized when they are read."""
    plain = preprocess(term).casefold()
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=4).digest(), "little") | _BIT_31


def metadata_weights(metadata: Mapping[str, Any]) -> Weights | None:
    """The chunk's term weights by ascending index; None if it has no usable ones."""
    return read_weights(metadata)[0]


def read_weights(metadata: Mapping[str, Any]) -> tuple[Weights | None, str]:
    """As `metadata_weights`, and a description of the first entry that cannot be used; empty if there is none.

    Terms with the same index keep the larger weight. Weights that are not positive and finite as float32 are left out; a
    weight of 0 is left out too, but is not a fault.
    """
    features = metadata.get("sparse_features")
    listed = features.get("term_weights") if isinstance(features, Mapping) else features
    if listed is None:
        return None, ""
    if not isinstance(features, Mapping) or not isinstance(listed, list):
        return None, f"{METADATA_WEIGHTS} is no list"
    found: dict[int, float] = {}
    fault = ""
    for number, one in enumerate(listed):
        wrong, weight = _weight(one)
        if wrong:
            fault = fault or f"{METADATA_WEIGHTS}[{number}] {wrong}"
        elif weight:
            index = term_index(one["term"])
            found[index] = max(weight, found.get(index, 0.0))
    return (_sorted(found) if found else None), fault


def _weight(one: Any) -> tuple[str, float]:
    """The fault of an entry (empty if there is none), and its weight rounded to float32."""
    term, weight = (one.get("term"), one.get("weight")) if isinstance(one, Mapping) else (None, None)
    if not isinstance(term, str):
        return "has no term", 0.0
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        return "has no weight that is a number", 0.0
    if weight == 0:
        return "", 0.0
    try:
        given = float(weight)
    except OverflowError:  # an integer of hundreds of digits
        given = math.inf
    with np.errstate(all="ignore"):
        kept = float(np.float32(given))
    if not 0 < kept < math.inf:
        return f"has the weight {given:.6g}, which float32 does not keep as positive and finite", 0.0
    return "", kept


def query_weights(text: str) -> Weights:
    """A query vector for metadata terms: weight 1 for each of the query's words."""
    return _sorted({term_index(word): 1.0 for word in _words(text)})


def _words(text: str) -> list[str]:
    """Runs of letters, digits, underscores and combining marks: vowels of Devanagari or Thai are marks, not letters."""
    if text.isascii():
        return _WORD.findall(text)
    return "".join(one if _WORD.match(one) or _is_mark(one) else " " for one in text).split()


def _is_mark(character: str) -> bool:
    """Whether it is a combining mark other than a variation selector, which only says how an emoji looks."""
    return category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"


def _sorted(weights: Mapping[int, float]) -> Weights:
    indices = sorted(weights)
    return np.array(indices, np.uint32), np.array([weights[index] for index in indices], np.float32)
