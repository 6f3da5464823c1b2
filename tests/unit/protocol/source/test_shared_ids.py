from __future__ import annotations

import pytest
from embedfleet.protocol.source.shared_ids import shared_id_reason, with_new_row


@pytest.mark.parametrize("id_", ["a", "", "it's", 'a "b"', "row 7 with another text", "\n"])
def test_the_row_of_a_reason_can_be_replaced(id_: str) -> None:
    assert with_new_row(shared_id_reason(id_, 12), id_, lambda row: row + 100) == shared_id_reason(id_, 112)


@pytest.mark.parametrize(
    "reason", ["empty text", "", shared_id_reason("b", 1), "id 'a' was already used by row  with another text"]
)
def test_another_reason_stays(reason: str) -> None:
    assert with_new_row(reason, "a", lambda row: row + 1) == reason
