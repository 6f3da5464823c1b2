"""Texts cut into batches: the longest first, each text once, within the limits."""

from __future__ import annotations

import itertools

import numpy as np
from embedfleet.client.encoding.text_batches import BatchLimits, TextBatches
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.text(min_size=1, max_size=40), max_size=30), st.integers(1, 40), st.integers(1, 8))
def test_every_text_is_in_one_batch_as_it_was(texts: list[str], tokens: int, rows: int) -> None:
    texts = [text.encode(errors="replace").decode() for text in texts]
    batches = TextBatches(texts)
    cuts = batches.cut(BatchLimits(tokens, rows))
    order = [row for cut in cuts for row in cut.tolist()]
    assert sorted(order) == list(range(len(texts)))
    sizes = [len(texts[row].encode()) for row in order]
    assert sizes == sorted(sizes, reverse=True)
    for cut in cuts:
        assert len(cut) <= rows
        assert len(cut) == 1 or sum(len(texts[row].encode()) // 4 + 2 for row in cut) <= tokens
        arrays = batches.arrays(cut)
        data, offsets = arrays["utf8"].tobytes(), arrays["offsets"].tolist()
        assert [data[a:b].decode() for a, b in itertools.pairwise(offsets)] == [texts[row] for row in cut]
        assert arrays["offsets"].dtype == np.int32
