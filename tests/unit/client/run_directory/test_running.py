"""What is on disk of a run that was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.client.run_directory import running
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec


def test_rows_of_a_pass_with_several_vectors_are_committed_where_all_of_them_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = PassSpec(vector="heads-m", kind="bge-m3", model="m")
    dense = PassSpec(vector="dense-a", kind="dense", model="fake:8")
    on_disk = {"dense-a": 5} | {output.vector: rows for output, rows in zip(heads.outputs, (30, 20, 30), strict=True)}

    def on_disk_of(_layout: RunLayout, vector: str) -> int:
        return on_disk[vector]

    monkeypatch.setattr(running, "committed_rows", on_disk_of)
    spec = RunSpec(source="/c.jsonl", passes=(heads, dense))
    found = running.split_by_commit(RunLayout(tmp_path), spec, {"heads-m": 36, "dense-a": 5})
    assert found == {"heads-m": (20, 16), "dense-a": (5, 0)}
