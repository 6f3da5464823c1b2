"""A directory in the layout of 0.1.0 is read, resumed, verified, searched and exported where its files lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.run_directory.layout import RunLayout

from ..earlier_layout import as_before
from ..run_copies import copied

pytest.importorskip("qdrant_edge")

ROWS = 60


@pytest.fixture(scope="module")
def made(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A run with a rejected record and queries; and its flags."""
    folder = tmp_path_factory.mktemp("earlier")
    lines = [json.dumps({"id": f"c{row}", "text": f"row {row}"}) for row in range(ROWS)]
    (folder / "corpus.jsonl").write_text("\n".join([*lines, "no json"]) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "row 7"}\n')
    flags = ("--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu", "--queries", str(folder / "queries.jsonl"))
    cli("run", folder / "corpus.jsonl", "--out", folder / "run", *flags, code=3)
    return folder, flags


@pytest.fixture
def layout(made: tuple[Path, tuple[str, ...]], tmp_path: Path) -> RunLayout:
    """A copy of it in the earlier layout."""
    return as_before(copied(made[0] / "run", tmp_path / "run"))


def run(cli: Any, made: tuple[Path, tuple[str, ...]], layout: RunLayout, *more: str) -> Any:
    """The same command again, in the copy."""
    return cli("run", made[0] / "corpus.jsonl", "--out", layout.root, *made[1], "--json", *more, code=3).json


def lying(layout: RunLayout) -> dict[str, tuple[int, int]]:
    """Inode and time of each file of the intake, of the passes and of the segments."""
    folders = (layout.chunks, *layout.vectors.iterdir())
    paths = [path for folder in folders for path in folder.iterdir()]
    return {str(path.relative_to(layout.root)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_it_is_read_searched_and_exported(cli: Any, layout: RunLayout) -> None:
    assert cli("verify", layout.root, "--json").json["problems"] == []
    info = cli("info", layout.root, "--json").json
    assert (info["status"], info["chunks"]["rejected"]) == ("done", 1)
    assert info["vectors"][0]["model"] == "fake:8"
    assert cli("search", layout.root, "row 7", "--top-k", "1", "--json").json[0]["id"] == "c7"
    assert open_run(layout.root).quarantine[-1]["reason"].startswith("not JSON")
    cli("export", layout.root, "--format", "parquet,npy")
    exported = np.load(layout.export / "dense-fake-8.npy")
    np.testing.assert_array_equal(exported, open_run(layout.root).vectors("dense-fake-8"))


def test_the_same_command_finds_it_done_and_moves_nothing(
    cli: Any, made: tuple[Path, tuple[str, ...]], layout: RunLayout
) -> None:
    before = lying(layout)
    assert run(cli, made, layout)["committed"] == ROWS
    assert lying(layout) == before
    assert not layout.passes.exists()
    assert not layout.intake_folder.exists()


def test_it_is_resumed_where_its_files_lie(cli: Any, made: tuple[Path, tuple[str, ...]], layout: RunLayout) -> None:
    """With its intake broken off, a segment of vectors lost, and a model more: only what is new goes to the new places."""
    expected = open_run(layout.root).vectors("dense-fake-8")
    for path in (layout.intake, layout.chunk_segment(0), layout.vector_segment("dense-fake-8", 0), layout.manifest):
        path.unlink()
    done = run(cli, made, layout, "--dense", "fake:4")
    assert done["committed"] == ROWS
    assert [path.name for path in layout.passes.iterdir()] == ["dense-fake-4.json"]
    assert (layout.vector_folder("dense-fake-8") / "pass.json").exists()
    assert (layout.chunks / "limits.json").exists()
    assert cli("verify", layout.root, "--json").json["problems"] == []
    np.testing.assert_array_equal(open_run(layout.root).vectors("dense-fake-8"), expected)


def test_a_restart_begins_in_the_present_layout(
    cli: Any, made: tuple[Path, tuple[str, ...]], layout: RunLayout
) -> None:
    run(cli, made, layout, "--restart")
    assert {path.suffix for folder in (layout.chunks, *layout.vectors.iterdir()) for path in folder.iterdir()} == {
        ".parquet"
    }
    names = {path.name for path in layout.intake_folder.iterdir()}
    assert names == {"00000.rejected.jsonl", "counts.json", "limits.json", "source.json"}
    assert {path.name for path in layout.passes.iterdir()} == {"dense-fake-8.json", "sparse-bm25.json"}
    assert cli("verify", layout.root, "--json").json["problems"] == []
