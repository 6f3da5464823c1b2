"""Terms of a chunk's own metadata as sparse weights, in a range of indices that no model's vocabulary reaches.

The first users' chunks carry `metadata.sparse_features.term_weights`: a list of `{"term", "tf", "weight"}`. A model's indices
are token ids, far below 2^31; a term's index has bit 31 set. So both may stand in one collection, row by row, and a query that
carries both finds both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

METADATA_WEIGHTS = "metadata.sparse_features.term_weights"
_BIT_31 = 1 << 31
_WORD = re.compile(r"\w+")

Weights = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]


def term_index(term: str) -> int:
    """The index of a term: bit 31, and 31 bits of its BLAKE2b hash."""
    return int.from_bytes(hashlib.blake2b(term.casefold().encode(), digest_size=4).digest(), "little") | _BIT_31


def metadata_weights(metadata: Mapping[str, Any]) -> Weights | None:
    """The chunk's own term weights, indices ascending; None where it has none that can be used.

    Terms that share an index keep the larger weight. Weights that are not positive finite numbers are left out.
    """
    features = metadata.get("sparse_features")
    listed = features.get("term_weights") if isinstance(features, Mapping) else None
    found: dict[int, float] = {}
    for one in listed if isinstance(listed, list) else []:
        term, weight = (one.get("term"), one.get("weight")) if isinstance(one, Mapping) else (None, None)
        if isinstance(term, str) and isinstance(weight, int | float) and 0 < weight < float("inf"):
            index = term_index(term)
            found[index] = max(float(weight), found.get(index, 0.0))
    return _sorted(found) if found else None


def query_weights(text: str) -> Weights:
    """A query for such vectors: weight 1 for each of its words."""
    return _sorted({term_index(word): 1.0 for word in _WORD.findall(text)})


def _sorted(weights: Mapping[int, float]) -> Weights:
    indices = sorted(weights)
    return np.array(indices, np.uint32), np.array([weights[index] for index in indices], np.float32)
