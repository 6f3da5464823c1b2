"""The names of shards."""

from __future__ import annotations

import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.shard import Shard, check_count, parse_shard


def test_a_shard_is_a_number_from_0_of_a_count() -> None:
    assert parse_shard("17/64") == Shard(17, 64)
    assert str(Shard(17, 64)) == "17/64"
    assert parse_shard(" 0/1 ") == Shard(0, 1)


@pytest.mark.parametrize("text", ["", "3", "a/b", "3/", "/4", "-1/4", "1.5/4", "1/4/5", "1/-4", "٣/4"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="as in 17/64"):
        parse_shard(text)


@pytest.mark.parametrize("text", ["9/7", "7/7"])
def test_a_number_beyond_the_count_names_those_that_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="give 0/7 to 6/7"):
        parse_shard(text)


@pytest.mark.parametrize("count", [0, 100_001])
def test_a_count_has_bounds(count: int) -> None:
    with pytest.raises(UsageError, match="give 1 to 100,000 shards"):
        check_count(count, f"--shards {count}")
