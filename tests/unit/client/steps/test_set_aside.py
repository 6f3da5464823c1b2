"""A folder that is made anew, at every moment at which a crash could leave it."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.client.steps.derived.set_aside import SetAside
from embedfleet.protocol.errors import EmbedfleetError


def made(folder: Path, what: str) -> Path:
    folder.mkdir()
    (folder / "stats.json").write_text(what)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path / "run", "old")


def held(folder: Path) -> tuple[str, list[str]]:
    """What the folder holds, and what stands beside it."""
    return (folder / "stats.json").read_text(), sorted(one.name for one in folder.parent.iterdir() if one != folder)


def test_what_is_done_takes_the_place(folder: Path) -> None:
    aside = SetAside(folder)
    aside.take()
    assert not folder.exists()
    made(folder, "new")
    aside.drop()
    assert held(folder) == ("new", [])
    assert not aside.put_back()


def test_what_fails_gives_it_back(folder: Path) -> None:
    aside = SetAside(folder)
    aside.take()
    made(folder, "new")
    assert aside.put_back()
    assert held(folder) == ("old", [])


def test_a_crash_between_two_renames(folder: Path) -> None:
    SetAside(folder).take()
    SetAside(folder).recover()
    assert held(folder) == ("old", []), "before anything new was begun"
    SetAside(folder).take()
    made(folder, "new").rename(folder.parent / ".run.gone")
    SetAside(folder).recover()
    assert held(folder) == ("old", []), "while the new one was being removed"
    SetAside(folder).take()
    made(folder, "new")
    SetAside(folder).recover()
    assert held(folder) == ("new", [".run.before"]), "both are whole: the command says which is asked for"


def test_what_the_disk_refuses_is_an_error_of_ours(folder: Path) -> None:
    before = made(folder.parent / ".run.before", "older")
    with pytest.raises(EmbedfleetError, match=f"{folder}: .*make room there .* and run the same command again"):
        SetAside(folder).take()
    (folder.parent / ".run.gone").write_text("in the way")
    with pytest.raises(EmbedfleetError, match=f"{folder}: "):
        SetAside(folder).put_back()
    with pytest.raises(EmbedfleetError, match=f"{before}: "):
        SetAside(folder).drop()
    assert held(folder) == ("old", [".run.before", ".run.gone"])
