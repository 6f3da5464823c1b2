"""Flat tokens as the padded arrays that a model takes."""

from __future__ import annotations

import numpy as np

from .flat import FlatTokens, Int32, Int64, ranges


def pad(tokens: FlatTokens, rows: Int32, pad_id: int, pad_type: int, *, left: bool) -> dict[str, Int64]:
    """The model inputs of these rows as int64 arrays (rows, longest), padded at the right, or at the left."""
    lengths = tokens.lengths[rows].astype(np.int64)
    width = int(lengths.max(initial=0))
    begins = width - lengths if left else np.zeros_like(lengths)
    columns = np.arange(width)
    mask = (columns >= begins[:, None]) & (columns < (begins + lengths)[:, None])
    source = ranges(tokens.starts()[rows], lengths)
    arrays = {"input_ids": (tokens.ids, pad_id)}
    if tokens.types is not None:
        arrays["token_type_ids"] = (tokens.types.astype(np.int32), pad_type)
    found = {"attention_mask": mask.astype(np.int64)}
    for name, (values, fill) in arrays.items():
        found[name] = np.full(mask.shape, fill, np.int64)
        found[name][mask] = values[source]
    return found
