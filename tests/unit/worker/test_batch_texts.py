"""The texts of a batch message."""

from __future__ import annotations

import numpy as np
import pytest
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.work import BatchMessage
from embedfleet.worker.entry import _texts


def texts_of(rows: int, offsets: list[int], blob: bytes = b"abc", kind: str = "<i8") -> list[str]:
    found = {"offsets": np.array(offsets, kind), "utf8": np.frombuffer(blob, np.uint8)}
    headers, frames = arrays.pack(found)
    return list(_texts(BatchMessage(1, 2, rows, headers), [*frames]))


def test_they_are_the_strings() -> None:
    assert texts_of(3, [0, 1, 1, 3]) == ["a", "", "bc"]
    assert texts_of(3, [0, 1, 1, 3], kind="<i4") == ["a", "", "bc"]
    assert texts_of(0, [0], b"") == []


@pytest.mark.parametrize("offsets", [[0, 1, 3], [0, 1, 1, 1, 3], [1, 2, 2, 3], [0, 2, 1, 3], [0, 1, 2, 9], []])
def test_texts_that_cannot_be_told_apart(offsets: list[int]) -> None:
    with pytest.raises(ProtocolError, match="offsets"):
        texts_of(3, offsets)
