"""Whether a segment's chunks have sparse weights of their own, and where that is looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits, SpooledSegment
from embedfleet.coordinator.runs import metadata_weights
from embedfleet.coordinator.runs.metadata_weights import has_metadata_weights
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

WEIGHTS = {"sparse_features": {"term_weights": [{"term": "sea", "weight": 1.5}]}}


def spool(tmp_path: Path) -> tuple[RunLayout, list[SpooledSegment]]:
    """An intake of three segments, of which the second has a chunk with weights."""
    metadata: list[dict[str, Any] | None] = [None, {"k": 1}, WEIGHTS, None, None, {"sparse_features": {}}]
    records = [
        {"id": f"c{row}", "text": "sea"} | ({"metadata": one} if one else {}) for row, one in enumerate(metadata)
    ]
    source = tmp_path / "c.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in records))
    spec = RunSpec(source=str(source), passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),))
    layout, spooled = RunLayout(tmp_path / "run"), list[SpooledSegment]()
    ChunkLoader(spec, layout, SegmentLimits(rows=2), spooled.append, lambda: False).load()
    return layout, spooled


def test_a_segment_that_was_just_written_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, spooled = spool(tmp_path)
    monkeypatch.setattr(metadata_weights, "read_chunk_columns", lambda *_args: 1 / 0)
    assert [has_metadata_weights(layout, one) for one in spooled] == [False, True, False]


def test_a_segment_of_an_earlier_session_is_read(tmp_path: Path) -> None:
    spool(tmp_path)
    layout, spooled = spool(tmp_path)
    assert [one.metadata for one in spooled] == [None, None, None]
    assert [has_metadata_weights(layout, one) for one in spooled] == [False, True, False]
