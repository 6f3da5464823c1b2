"""One command at a time hands out the shards of a folder."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.cli.run.on_cluster import records_opened, whole_held
from embedfleet.client.shards.handing_out import handing_out
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.directory_lock import WRITING, drop_lock, take_lock
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "one"}\n')
    return str(path)


@pytest.mark.parametrize("on", [None, "ray"])
def test_a_second_command_on_the_same_folder_is_refused(tmp_path: Path, source: str, on: str | None) -> None:
    spec = RunSpec(source=source, passes=(PassSpec(vector="v", kind="dense", model="fake:8"),))
    request: Any = SimpleNamespace(on=on, remote=None, out=tmp_path / "run", spec=spec)
    session: Any = SimpleNamespace(received=())
    refused = f"^--out {tmp_path / 'run'}: {WRITING} .process {os.getpid()} on "
    with records_opened(request, session) as folder:
        assert folder == tmp_path / "run"
        with pytest.raises(RunDirectoryError, match=refused), records_opened(request, session):
            pass
        with whole_held(request, session):
            drop_lock(take_lock(RunLayout(folder), "its merge"))
    with records_opened(request, session), whole_held(request, session):
        pass


def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")

    def refused() -> str:
        with pytest.raises(RunDirectoryError) as error, handing_out(layout):
            pass
        return str(error.value)

    layout.root.write_text("")
    assert "run is a file" in refused()
    layout.root.unlink()
    layout.root.mkdir()
    layout.spec.write_text("{}")
    assert "holds a run of the whole source" in refused()
    assert not layout.shards.exists()
    layout.spec.unlink()
    layout.shards.mkdir()
    RunLayout(layout.shards).lock.symlink_to(tmp_path)
    assert "is a symbolic link" in refused()
    RunLayout(layout.shards).lock.unlink()
    layout.shards.rmdir()
    layout.shards.write_text("")
    assert "shards is a file" in refused()


def test_a_command_that_ends_before_the_shards_agree_leaves_nothing(tmp_path: Path) -> None:
    """The folder may be given to a run of the whole source then."""
    layout = RunLayout(tmp_path / "run")
    with handing_out(layout):
        assert RunLayout(layout.shards).lock.exists()
    assert not layout.root.exists()
    with handing_out(layout):
        layout.fit.write_text("{}")
    assert [path.name for path in layout.root.iterdir()] == [layout.fit.name]
    with handing_out(layout):
        layout.shards_record.write_text("{}")
    assert RunLayout(layout.shards).lock.read_text() == ""
