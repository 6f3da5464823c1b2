"""A spool: what belongs into the store, and what its notes say after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.object_storage import spool as spool_module
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.spool import Entry, Spool

RUN = Address("s3", "box", "runs/mine")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool.make(tmp_path / "spool", RUN)
    made.root.mkdir()
    return made


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("spec.json", "spec.json"),
        ("vectors/a/00000.parquet", "vectors/a/00000.parquet"),
        ("rerank/run/spec.json", "rerank/run/spec.json"),
        (".lock", None),
        ("intake/.ids.sqlite", None),
        ("qdrant/wal/x", None),
        ("cache/a.npy", None),
        ("published.json", None),
        ("intake/00001.parquet.damaged", None),
        (".queries.before/spec.json", None),
    ],
)
def test_files_of_the_run_belong_into_the_store_and_scratch_does_not(spool: Spool, path: str, name: str | None) -> None:
    assert spool.name_of(spool.root / path) == name
    (spool.root / path).parent.mkdir(parents=True, exist_ok=True)
    (spool.root / path).touch()
    assert spool.files() == ({name: spool.root / path} if name else {})


def test_names_that_lead_elsewhere_have_no_path(spool: Spool) -> None:
    assert spool.path_of("a/b") == spool.root / "a" / "b"
    assert [spool.path_of(name) for name in ("../x", "/etc/x", ".embedfleet.lock", "a/../../x", "")] == [None] * 5


def test_the_spool_is_found_from_its_folders(spool: Spool) -> None:
    for folder in (spool.root, spool.root / "queries", spool.root / "rerank" / "run"):
        found = Spool.around(folder)
        assert found is not None
        assert (found.root, found.address) == (spool.root, RUN)
    assert Spool.around(spool.folder) is None
    assert Spool.around(spool.folder / "other") is None


def test_a_copy_to_read_is_none(tmp_path: Path) -> None:
    copy = Spool.make(tmp_path / "copy", RUN, copy=True)
    copy.root.mkdir()
    assert Spool.around(copy.root) is None


def test_a_folder_of_something_else_is_refused(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(RunDirectoryError, match="is the spool of s3://box/runs/mine"):
        Spool.make(spool.folder, Address("s3", "box", "other"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    with pytest.raises(RunDirectoryError, match="is not empty and no spool"):
        Spool.make(tmp_path / "full", RUN)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "spool.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="not the record of a spool"):
        Spool.make(tmp_path / "odd", RUN)
    with pytest.raises(RunDirectoryError, match="give a folder that can be written"):
        Spool.make(tmp_path / "full" / "note" / "x", RUN)


def test_what_a_kill_left_of_a_spool_is_used_again(tmp_path: Path) -> None:
    """While its record was written, and while it was removed."""
    for name in (".spool.json.x1.tmp", "objects.jsonl", ".lock", "lease.json"):
        (tmp_path / "begun").mkdir(exist_ok=True)
        (tmp_path / "begun" / name).touch()
    made = Spool.make(tmp_path / "begun", RUN)
    made.root.mkdir()
    assert Spool.around(made.root) is not None
    made.remove()
    assert not made.folder.exists()


def test_a_record_has_its_name_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module, "commit_new", cut)
    with pytest.raises(RunDirectoryError, match="No space left on device; give a folder that can be written"):
        Spool.make(tmp_path / "copy", RUN, copy=True)
    monkeypatch.undo()
    Spool.make(tmp_path / "copy", RUN, copy=True)


def test_of_two_first_readers_both_have_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other writes its record between the look and the write of this one."""
    commit = spool_module.commit_new

    def other_first(path: Path, data: bytes) -> None:
        commit(path, data)
        (path.parent / "lock").touch()
        commit(path, data)

    monkeypatch.setattr(spool_module, "commit_new", other_first)
    assert Spool.make(tmp_path / "copy", RUN, copy=True).address == RUN


def test_a_spool_is_worked_in_by_one_process(spool: Spool) -> None:
    with spool.alone():
        with (
            pytest.raises(
                RunDirectoryError, match=r"--spool .*: another process is working in it; wait for it, or give"
            ),
            Spool(spool.folder, RUN).alone(),
        ):
            pytest.fail("two in one spool")
        spool.remove()
    with pytest.raises(RunDirectoryError, match="run the same command again"), spool.alone():
        pytest.fail("it is gone")


def test_the_last_line_of_an_object_counts_and_a_torn_one_does_not(spool: Spool) -> None:
    other = Spool(spool.folder, RUN)
    spool.note(Entry(name="a", e_tag="1"), Entry(name="b", e_tag="1"))
    assert set(other.entries()) == {"a", "b"}
    spool.note(Entry(name="a", e_tag="2"), Entry(name="b", gone=True))
    assert {name: one.e_tag for name, one in other.entries().items()} == {"a": "2"}
    with (spool.folder / "objects.jsonl").open("ab") as lines:
        lines.write(b'{"name":"c","e_')
    assert set(other.entries()) == {"a"}
    with (spool.folder / "objects.jsonl").open("ab") as lines:
        lines.write(b"\n")
    spool.note(Entry(name="d"))
    assert set(other.entries()) == {"a", "d"}
