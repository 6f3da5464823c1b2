from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

from embedfleet.client.cli.run.run_command import count_reasons, reason_lines
from embedfleet.protocol.statistics.reason_count import MOST_REASONS, OTHERS, ReasonCount


def test_reasons_that_differ_each_time_do_not_grow() -> None:
    counts = ReasonCount()
    for row in range(5 * MOST_REASONS):
        counts.add(f"id 'a{row}' was already used")
        counts.add("empty text")
    assert len(counts) == MOST_REASONS + 1
    assert counts.first(2) == [("empty text", 5 * MOST_REASONS), (OTHERS, 4 * MOST_REASONS + 1)]
    counts.add("x" * 1_000)
    assert max(len(reason) for reason, _ in counts.first(MOST_REASONS + 1)) <= 160


def test_the_frequent_reasons_of_a_quarantine_are_counted_in_bounded_memory(tmp_path: Path) -> None:
    lines = (json.dumps({"reason": "empty text" if row % 3 else f"id 'a{row}' was used"}) for row in range(60_000))
    (tmp_path / "quarantine.jsonl").write_text("\n".join(lines))
    tracemalloc.start()
    found = count_reasons(tmp_path).first(3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [("empty text", 40_000), (OTHERS, 20_001 - MOST_REASONS), ("id 'a0' was used", 1)]
    assert peak < 1 << 20
    assert reason_lines(tmp_path / "elsewhere") == []


def test_reasons_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    reasons = ["empty text"] * 4 + ["not JSON"] * 3 + ["no id"] * 2 + ["too long", "no text"]
    (tmp_path / "quarantine.jsonl").write_text("\n".join(json.dumps({"reason": one}) for one in reasons))
    lines = ["4 times: empty text", "3 times: not JSON", "2 times: no id", "and 2 more reasons, 2 times"]
    assert reason_lines(tmp_path) == lines
    (tmp_path / "quarantine.jsonl").write_text(json.dumps({"reason": "no id"}))
    assert reason_lines(tmp_path) == ["1 time: no id"]


def test_a_row_without_several_vectors_counts_once(tmp_path: Path) -> None:
    rows = [(row, "not finite") for row in (70_000, 3, 12)]
    lines = [{"file": "c.jsonl", "record": 3, "reason": "empty text"}]
    lines += [
        {"row": row, "vector": vector, "reason": reason}
        for vector in ("dense-a", "ensemble-concat")
        for row, reason in rows
    ]
    lines.append({"row": 4, "vector": "dense-b", "reason": "too long"})
    (tmp_path / "quarantine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert reason_lines(tmp_path) == ["3 times: not finite", "1 time: empty text", "1 time: too long"]
