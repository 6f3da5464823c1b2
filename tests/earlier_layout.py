"""A run directory as 0.1.0 laid it out: `pass.json` in `vectors/NAME`, the files of the intake in `chunks`."""

from __future__ import annotations

from pathlib import Path

from embedfleet.protocol.run_directory.layout import RunLayout


def as_before(root: Path) -> RunLayout:
    """Move the files of a run, and of its queries and pairs, to where 0.1.0 had them."""
    layout = RunLayout(root)
    for path in list(layout.passes.glob("*.json")):
        path.rename(layout.vector_folder(path.stem) / "pass.json")
    for path in list(layout.intake_folder.iterdir()):
        path.rename(layout.chunks / ("intake.json" if path.name == "counts.json" else path.name))
    for folder in (layout.passes, layout.intake_folder):
        folder.rmdir()
    for derived in (layout.queries, layout.scores):
        if derived.exists():
            as_before(derived)
    return layout
