"""What a file claims against what was counted."""

from __future__ import annotations

from pathlib import Path

from embedfleet.client.verify.claims import differences, read_claim
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import SegmentLimits, read_intake


def test_each_field_that_differs_is_a_problem() -> None:
    found = differences(Path("limits.json"), SegmentLimits(rows=3, tokens=9), {"tokens": 8, "rows": 3}, "here: ")
    assert list(found) == ["limits.json: here: tokens 9, but the files have 8"]


def test_a_damaged_file_is_a_problem_and_one_that_is_missing_is_none(tmp_path: Path) -> None:
    layout, problems = RunLayout(tmp_path), list[str]()
    assert read_claim(read_intake, layout, problems) is None
    assert problems == []
    layout.intake_folder.mkdir()
    layout.intake.write_text("{}")
    assert read_claim(read_intake, layout, problems) is None
    assert problems[0].startswith(f"{layout.intake}: damaged (Object missing required field `segments`)")
    layout.intake.write_text('{"segments":1,"rows":2,"rejected":0,"duplicates":0,"complete":true}')
    found = read_claim(read_intake, layout, problems)
    assert found is not None
    assert (found.segments, found.rows, len(problems)) == (1, 2, 1)
