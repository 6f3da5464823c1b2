"""What `run --json` prints of the corpus."""

from __future__ import annotations

from typing import Any

from embedfleet.client.steps.run_summary import summary
from embedfleet.protocol.run_directory.truncation import Truncation
from embedfleet.protocol.wire.control import PassSummary, RunEnded

RATES = ("device", "chunks_per_second", "tokens_per_second", "padding")
CUTS = ("truncated", "truncated_share", "tokens_cut", "tokens_cut_share")


def ended(computed: int, **more: Any) -> RunEnded:
    one = PassSummary(
        vector="dense-a", model="fake:4", device="cpu:0", chunks=4, chunks_per_second=2.0, tokens_per_second=8.0,
        padding=0.0, rotation_gap_seconds=None, computed=computed,
        truncation=Truncation(4, 1, 30, 10) if computed else None,
    )  # fmt: skip
    counts: dict[str, Any] = {"chunks": 5, "committed": 4, "quarantined": 1, "skipped_duplicates": 0}
    return RunEnded(run="r1", status="done", seconds=1.0, passes=(one,), **counts, **more)


def test_a_pass_that_computed_has_its_rates() -> None:
    found = summary(ended(4))
    assert list(found) == [
        *("run", "status", "chunks", "committed", "quarantined", "skipped_duplicates", "notes", "seconds", "passes"),
    ]
    (one,) = found["passes"]
    assert [one[name] for name in RATES] == ["cpu:0", 2.0, 8.0, 0.0]
    assert [one[name] for name in CUTS] == [1, 0.25, 10, 0.25]


def test_one_that_was_committed_before_has_none_and_an_error_is_told() -> None:
    found = summary(ended(0, error="no room"))
    assert found["error"] == "no room"
    (one,) = found["passes"]
    assert [one[name] for name in (*RATES, *CUTS)] == [None] * 8
