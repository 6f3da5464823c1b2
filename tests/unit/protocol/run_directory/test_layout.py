"""Where files lie: beside the segments, or where an earlier version has put them."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.protocol.run_directory.layout import RunLayout

EARLIER = {
    "limits": "chunks/limits.json",
    "intake": "chunks/intake.json",
    "source": "chunks/source.json",
    "source_digest": "chunks/source.sha256",
    "id_index": "chunks/.ids.sqlite",
}


@pytest.mark.parametrize("name", EARLIER)
def test_a_file_is_where_an_earlier_version_put_it(tmp_path: Path, name: str) -> None:
    layout, earlier = RunLayout(tmp_path), tmp_path / EARLIER[name]
    assert getattr(layout, name).parent == layout.intake_folder
    earlier.parent.mkdir()
    earlier.write_text("")
    assert getattr(layout, name) == earlier
    earlier.unlink()
    earlier.symlink_to(tmp_path / "nowhere")
    assert getattr(layout, name) == earlier, "a link that leads nowhere is refused, and not overlooked"


def test_each_pass_has_its_own_place(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.vector_folder("dense-a").mkdir(parents=True)
    (layout.vector_folder("dense-a") / "pass.json").write_text("{}")
    assert layout.pass_file("dense-a") == tmp_path / "vectors" / "dense-a" / "pass.json"
    assert layout.pass_file("dense-b") == tmp_path / "passes" / "dense-b.json"


def test_rejected_records_of_both_places_are_one_series(tmp_path: Path) -> None:
    """A run that an earlier version began, and this one went on with."""
    layout = RunLayout(tmp_path)
    for folder, segments in ((layout.chunks, (0, 2)), (layout.intake_folder, (2, 10, 100_000))):
        folder.mkdir()
        for segment in segments:
            (folder / f"{segment:05d}.rejected.jsonl").write_text("")
    (layout.intake_folder / "7.rejected.jsonl").write_text("of somebody else")
    assert layout.rejected_segments() == [0, 2, 10, 100_000]
    assert layout.rejected_segment(2).parent == layout.chunks
    assert layout.rejected_segment(10).parent == layout.intake_folder
