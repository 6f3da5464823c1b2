"""What the end of a shard's command says of the shard, and of all others."""

from __future__ import annotations

import pytest
from embedfleet.client.ray.shard_endings import ShardEndings, Verdict, failures
from embedfleet.protocol.run_directory.directory_lock import WRITING


@pytest.mark.parametrize(
    ("code", "error", "verdict"),
    [
        (0, "", "done"),
        (3, "", "done"),
        (1, "no vectors", "failed"),
        (-9, "", "failed"),
        (130, "", "lost"),
        (143, "", "lost"),
        (2, f"--out /o/shards/00001: {WRITING} (process 7)", "writing"),
        (2, "--out s3://b/run: the store is too busy (503); run the same command again later", "away"),
        (1, "s3://b/run: cannot be written: h:9 did not answer in time; check the network, and", "away"),
        (2, "model x: not in the hub's cache, and the hub cannot be reached (OSError)", "failed"),
        (2, "--max-tokens: give 1 or more", "failed"),
    ],
)
def test_one_end(code: int, error: str, verdict: Verdict) -> None:
    assert ShardEndings("/o").judge("a", 1, code, error) == verdict


@pytest.mark.parametrize("second", [("a", 2), ("b", 1), ("b", 2)])
def test_a_wrong_flag_ends_the_run_at_its_second_place(second: tuple[str, int]) -> None:
    endings = ShardEndings("/o")
    assert endings.judge("a", 1, 2, "/o/shards/00001: wrong") == "failed"
    assert endings.judge("a", 1, 2, "/o/shards/00001: wrong") == "failed", "the same node and shard"
    node, shard = second
    assert endings.judge(node, shard, 2, f"/o/shards/{shard:05}: wrong") == "general"


def test_a_wrong_setting_of_a_store_is_the_same_reason_for_two_shards() -> None:
    endings = ShardEndings("s3://b/run")
    line = "--out s3://b/run/shards/0000{}: permission denied (AccessDenied); ask for access"
    assert endings.judge("a", 1, 2, line.format(1)) == "failed"
    assert endings.judge("b", 2, 2, line.format(2)) == "general"


def test_other_reasons_and_other_codes_are_the_shards_own() -> None:
    endings = ShardEndings("/o")
    assert endings.judge("a", 1, 2, "no space left on the disk") == "failed"
    assert endings.judge("b", 2, 2, "the store is busy") == "failed"
    assert endings.judge("b", 3, 1, "no space left on the disk") == "failed"


def test_the_error_names_three_shards() -> None:
    found = failures({one: f"shard {one}: broken" for one in range(5)}, 9)
    assert found.startswith(
        "5 of 9 shards could not be run: shard 0: broken; shard 1: broken; shard 2: broken; and 2 more."
    )
