"""Taking a run directory: whose it is, what stands in it, and what it was computed with."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from embedfleet.exporter.run_directory import owned_directory
from embedfleet.exporter.run_directory.owned_directory import RunDirectory
from embedfleet.protocol.errors import RunDirectoryError, SourceError, SpecMismatch
from embedfleet.protocol.run_directory import removal
from embedfleet.protocol.run_directory.atomic_files import partial_of
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import IntakeRecord
from embedfleet.protocol.run_directory.run_json import read_spec
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, Passed
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA, with_info
from embedfleet.protocol.source.check import fingerprint as stamps
from embedfleet.protocol.source.corpus import resolve
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.text.preprocessing import FIRST, LATEST
from xxhash import xxh3_128_hexdigest

from ....export_bench import DENSE, HEADS, OTHER, fingerprint

BOTH = EnsembleSpec(vector="ensemble-concat", method="concat", members=("dense-a", "dense-b"), weights=(1.0, 2.0))
SPEC = RunSpec(source="/corpus.jsonl", passes=(DENSE,), index="none")
JOINED = RunSpec(source="/corpus.jsonl", passes=(DENSE, OTHER), index="none", ensembles=(BOTH,))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "run"


def take(root: Path, spec: RunSpec = SPEC, *, restart: bool = False) -> RunDirectory:
    """A directory that was taken and let go again: it may be asked, and another may take it."""
    directory = RunDirectory(root, spec, restart=restart)
    directory.release()
    return directory


def whole(directory: RunDirectory, vector: str, *segments: int) -> None:
    """Segment files that begin and end as whole ones do."""
    for segment in segments:
        directory.layout.vector_segment(vector, segment).write_bytes(b"PAR1 and so on PAR1")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def about(directory: RunDirectory, vector: str = "dense-a") -> dict[str, Any]:
    return json.loads(directory.layout.pass_file(vector).read_bytes())


def test_a_new_folder_is_made_with_all_that_a_run_needs(root: Path) -> None:
    layout = take(root, restart=True).layout
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == SPEC
    assert layout.chunks.is_dir()
    assert layout.vector_folder("dense-a").is_dir()


@pytest.mark.parametrize("restart", [False, True])
def test_a_directory_of_shards_takes_no_run_of_the_whole_source(root: Path, restart: bool) -> None:
    root.mkdir(parents=True)
    RunLayout(root).shards_record.write_text("{}")
    with pytest.raises(RunDirectoryError, match=r"is made of shards .*: give --shard I/N"):
        RunDirectory(root, SPEC, restart=restart)
    assert RunLayout(root).shards_record.read_text() == "{}"
    assert not RunLayout(root).spec.exists()


def test_two_runs_never_hold_one_directory(root: Path) -> None:
    first = RunDirectory(root, SPEC, restart=False)
    mine = f"another run is writing there .process {os.getpid()} on .*; wait for it"
    with pytest.raises(RunDirectoryError, match=f"--out {root}: {mine}"):
        RunDirectory(root, SPEC, restart=True)
    first.release()
    RunDirectory(root, SPEC, restart=False).release()


def test_a_run_that_is_refused_does_not_keep_the_directory(root: Path) -> None:
    whole(take(root), "dense-a", 0)
    with pytest.raises(SpecMismatch):
        RunDirectory(root, msgspec.structs.replace(SPEC, limit=7), restart=False)
    RunDirectory(root, SPEC, restart=False).release()


@pytest.mark.parametrize("what", ["a file", "not a run"])
def test_what_is_no_run_is_left_alone(tmp_path: Path, what: str) -> None:
    root, mine = (tmp_path / "mine", tmp_path / "mine")
    if what == "not a run":
        root.mkdir()
        mine = root / "thesis.tex"
    mine.write_text("mine")
    with pytest.raises(RunDirectoryError, match="is a file" if what == "a file" else "holds no run"):
        RunDirectory(root, SPEC, restart=True)
    assert mine.read_text() == "mine"
    assert not (root / "spec.json").exists()


def test_what_a_cut_in_the_first_moment_leaves_is_taken_up(tmp_path: Path) -> None:
    partial_of(RunLayout(tmp_path).spec).write_bytes(b'{"sou')
    take(tmp_path)
    assert msgspec.json.decode(RunLayout(tmp_path).spec.read_bytes(), type=RunSpec) == SPEC


def test_a_disk_that_refuses_is_told_with_its_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunDirectoryError, match=f"--out {root}: No space left on device; make room"):
            RunDirectory(root, SPEC, restart=False)
    take(root)


def test_a_manifest_goes_when_work_begins_again(root: Path) -> None:
    manifest = take(root).layout.manifest
    manifest.write_text("{}")
    take(root)
    assert not manifest.exists()


def begun(folder: Path) -> tuple[Path, RunSpec, RunLayout]:
    """A source, and a run of it that is done and published as far as anyone looks."""
    source = folder / "corpus.jsonl"
    source.write_text("{}")
    spec = RunSpec(source=str(source), passes=(DENSE,))
    directory = take(folder / "run", spec)
    whole(directory, "dense-a", 0)
    layout = directory.layout
    layout.intake_folder.mkdir()
    layout.source.write_bytes(msgspec.json.encode(stamps(resolve(str(source)))))
    layout.edge.mkdir()
    for path in (layout.manifest, layout.published):
        path.write_text("{}")
    info = ChunkSegmentInfo(segment=0, first_row=0, rows=0, rejected=0, duplicates=0, cursor=Cursor(), passed=Passed())
    pq.write_table(with_info(CHUNK_SCHEMA.empty_table(), info), layout.chunk_segment(0))
    record = IntakeRecord(segments=1, rows=0, rejected=0, duplicates=0, complete=True, finished=("another",))
    layout.intake.write_bytes(msgspec.json.encode(record))
    return source, spec, layout


@pytest.mark.parametrize("passes", [(DENSE,), (DENSE, OTHER)])
def test_a_source_at_another_place_is_known_by_its_content(tmp_path: Path, passes: tuple[PassSpec, ...]) -> None:
    """A project that was moved: its corpus and its run."""
    source, spec, layout = begun(tmp_path)
    record = IntakeRecord(
        segments=1, rows=0, rejected=0, duplicates=0, complete=True, finished=(xxh3_128_hexdigest(b"{}"),)
    )
    layout.intake.write_bytes(msgspec.json.encode(record))
    moved = tmp_path / "elsewhere" / source.name
    moved.parent.mkdir()
    source.rename(moved)
    now = msgspec.structs.replace(spec, passes=passes, source=str(moved))
    assert take(layout.root, now).committed(0) == [0]
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == now


@pytest.mark.parametrize("what", ["content", "name", "limit", "none"])
def test_another_source_at_another_place_is_refused(tmp_path: Path, what: str) -> None:
    source, spec, layout = begun(tmp_path)
    record = IntakeRecord(
        segments=1, rows=0, rejected=0, duplicates=0, complete=True, finished=(xxh3_128_hexdigest(b"{}"),)
    )
    layout.intake.write_bytes(msgspec.json.encode(record))
    moved = tmp_path / "elsewhere" / ("other.jsonl" if what == "name" else source.name)
    moved.parent.mkdir()
    if what != "none":
        moved.write_text("[]" if what == "content" else "{}")
    now = msgspec.structs.replace(spec, source=str(moved), limit=7 if what == "limit" else None)
    link = "the source that it was made of by the path above (a link there will do), "
    words = f"Give {'' if what == 'limit' else link}another folder, or --restart"
    with pytest.raises(SpecMismatch, match=re.escape(words)):
        take(layout.root, now)
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == spec
    assert layout.manifest.exists()


@pytest.mark.parametrize("passes", [(DENSE,), (DENSE, OTHER)])
@pytest.mark.parametrize("what", ["touched", "gone before its end", "without stamps"])
def test_a_run_whose_source_is_refused_stays_as_it_was(tmp_path: Path, passes: tuple[PassSpec, ...], what: str) -> None:
    """The intake looks once the directory is taken: it would be too late for the manifest and the shard."""
    source, spec, layout = begun(tmp_path)
    match what:
        case "touched":
            os.utime(source, (1, 1))
        case "without stamps":
            layout.source.unlink()
        case _:
            source.unlink()
            layout.intake.unlink()
    before = {path: path.is_file() and path.read_bytes() for path in layout.root.rglob("*")}
    with pytest.raises(SourceError, match=r"changed since its intake began|no such file|gone or damaged"):
        take(layout.root, msgspec.structs.replace(spec, passes=passes))
    assert {path: path.is_file() and path.read_bytes() for path in layout.root.rglob("*")} == before
    assert not take(layout.root, spec, restart=True).layout.manifest.exists()


@pytest.mark.parametrize("what", ["as it was", "read to its end and gone"])
def test_a_source_that_the_intake_takes_is_no_hindrance(tmp_path: Path, what: str) -> None:
    source, spec, layout = begun(tmp_path)
    if what != "as it was":
        source.unlink()
    take(layout.root, msgspec.structs.replace(spec, passes=(DENSE, OTHER)))
    assert not layout.manifest.exists()
    assert not layout.edge.exists()


def test_a_manifest_is_gone_for_good_before_anything_that_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec, layout = begun(tmp_path)
    synced: list[bool] = []

    def refuse(*_args: Any) -> None:
        assert synced == [False]
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(owned_directory, "sync_folder", lambda _folder: synced.append(layout.manifest.exists()))
    monkeypatch.setattr(owned_directory, "change", refuse)
    with pytest.raises(RunDirectoryError, match="Input/output error"):
        take(layout.root, msgspec.structs.replace(spec, passes=(DENSE, OTHER)))
    assert synced == [False]


def test_another_spec_is_refused_by_what_differs_where_something_was_computed(root: Path) -> None:
    before = take(root)
    whole(before, "dense-a", 0)
    with pytest.raises(SpecMismatch, match=r"holds a run of another spec: limit: None → 7.*--restart"):
        RunDirectory(root, msgspec.structs.replace(SPEC, limit=7), restart=False)
    assert before.committed(0) == [0]
    assert take(root).committed(0) == [0], "the spec that stands is the old one"


def test_another_spec_takes_the_place_of_one_that_computed_nothing(root: Path) -> None:
    before = take(root)
    (before.layout.chunks / "00000.parquet").write_bytes(b"read from another source")
    other = msgspec.structs.replace(SPEC, source="/other.jsonl")
    layout = take(root, other).layout
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == other
    assert list(layout.chunks.iterdir()) == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b'{"openapi": "3.1.0"}',
        b'{"source": "/x", "passes": []}',
        b'{"source": "/x", "passes": [{"vector": "../../other/vectors/a", "kind": "dense", "model": "fake:8"}]}',
        b'{"source": "/x", "passes": [{"vector": "/etc", "kind": "dense", "model": "fake:8"}]}',
    ],
)
def test_a_spec_that_is_none_of_ours_protects_what_stands_beside_it(root: Path, content: bytes, restart: bool) -> None:
    layout = take(root).layout
    layout.spec.write_bytes(content)
    before = sorted(root.rglob("*"))
    with pytest.raises(RunDirectoryError, match=r"spec\.json is not the spec of a run .*nothing there was touched"):
        RunDirectory(root, SPEC, restart=restart)
    assert (layout.spec.read_bytes(), sorted(root.rglob("*"))) == (content, before)


def test_a_lock_alone_makes_no_directory_ours(root: Path) -> None:
    root.mkdir(parents=True)
    for name in (".lock", "manifest.json"):
        (root / name).write_text("")
    with pytest.raises(RunDirectoryError, match="holds no run"):
        RunDirectory(root, SPEC, restart=False)
    assert (root / "manifest.json").exists()
    (root / "manifest.json").unlink()
    (root / ".stats.json.tmp").write_text("")
    take(root)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "files",
    [
        {"spec.json": '{"openapi": "3.1.0"}', "manifest.json": "{}", "chunks/a.txt": "mine", "stats.json": "mine"},
        {"spec.json": '{"source": "/x", "pas', "vectors/dense-fake-8/00000.parquet": "mine"},
        {".lock": "", "manifest.json": "mine"},
        {".lock": "", "export/points.jsonl": "mine"},
        {"corpus.jsonl": "mine"},
    ],
)
def test_a_folder_of_somebody_else_stays_as_it_is(root: Path, files: dict[str, str], restart: bool) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    before = contents(root)
    with pytest.raises(RunDirectoryError, match=r"holds no run|is not the spec of a run"):
        RunDirectory(root, SPEC, restart=restart)
    assert contents(root) == before


LINKS = (
    "chunks",
    "intake",
    "vectors",
    "passes",
    "vectors/dense-a",
    "qdrant",
    "queries",
    "rerank",
    "export",
    "stats.json",
    "spec.json",
    ".lock",
)
EARLIER = ("vectors/dense-a/pass.json", "chunks/limits.json")
"""Where 0.1.0 had its files."""
FILES = ("chunks/00000.parquet", "passes/dense-a.json", "intake/limits.json", *EARLIER)


@pytest.mark.parametrize("name", [*LINKS, *FILES, "qdrant/segments"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_link_in_place_of_what_a_run_writes_is_refused(tmp_path: Path, name: str, restart: bool) -> None:
    """Before anything is written or removed, there or where it points."""
    root = tmp_path / "run"
    take(root)
    path, there = root / name, tmp_path / "elsewhere"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(there)
    elif path.suffix in (".json", ".parquet"):
        there.write_text("mine")
    else:
        there.mkdir()
        (there / "00000.parquet").write_text("mine")
    path.symlink_to(there)
    before = contents(tmp_path)
    with pytest.raises(RunDirectoryError, match=f"{path} is a symbolic link"):
        RunDirectory(root, SPEC, restart=restart)
    assert contents(tmp_path) == before


FOLDERS = (".lock", "manifest.json", "stats.json", ".stats.json.tmp", "intake/source.json", "intake/.ids.sqlite")
ODD = {
    "folder": (*FOLDERS, "chunks/00000.parquet", "passes/dense-a.json", "rerank/candidates.json", *EARLIER),
    "pipe": (".lock", "published.json", "vectors/dense-a/00000.parquet", "vectors", "rerank/run", *EARLIER),
    "file": ("chunks", "intake", "passes", "vectors/dense-a", "qdrant/segments", ".queries.before"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in ODD.items() for name in names])
def test_another_kind_in_place_of_what_a_run_has_is_refused(root: Path, kind: str, name: str) -> None:
    """By who writes there and by who reads; a pipe is not even opened, since that waits for a writer."""
    layout, path = take(root).layout, root / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "file": lambda: path.write_text("mine")}[kind]()
    words = f"{path} is a {kind}.*, and a run has something else of that name. Move it away"
    for restart in (False, True):
        with pytest.raises(RunDirectoryError, match=words):
            RunDirectory(root, SPEC, restart=restart)
    with pytest.raises(RunDirectoryError, match=words):
        read_spec(layout)
    assert path.exists()


@pytest.mark.parametrize("kind", ["folder", "pipe, socket or device"])
def test_a_spec_of_another_kind_is_nobodys(root: Path, kind: str) -> None:
    layout = take(root).layout
    layout.spec.unlink()
    layout.spec.mkdir() if kind == "folder" else os.mkfifo(layout.spec)
    with pytest.raises(RunDirectoryError, match=rf"spec.json is not the spec of a run \(it is a {kind}\)"):
        RunDirectory(root, SPEC, restart=True)
    with pytest.raises(RunDirectoryError, match=f"spec.json is a {kind}, and a run has something else of that name"):
        read_spec(layout)


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there")
    with pytest.raises(RunDirectoryError, match="is a link that leads nowhere"):
        RunDirectory(link, SPEC, restart=False)
    (tmp_path / "there").mkdir()
    whole(take(link), "dense-a", 0)
    assert take(link, restart=True).committed(0) == []
    assert link.is_symlink()


@pytest.mark.parametrize("source", ["export/points.jsonl", "chunks/corpus.jsonl", "queries"])
def test_a_source_among_what_a_restart_removes_is_refused(root: Path, source: str) -> None:
    layout = take(root).layout
    path = root / source
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(
        RunDirectoryError, match=f"{path} is the source and lies among the files that --restart removes"
    ):
        RunDirectory(layout.root, msgspec.structs.replace(SPEC, source=str(path)), restart=True)
    assert path.exists()


def test_restart_removes_what_a_run_wrote_and_nothing_else(root: Path) -> None:
    directory = take(root)
    layout = directory.layout
    whole(directory, "dense-a", 0)
    layout.queries.mkdir()
    for path in (layout.stats, layout.events, layout.quarantine, layout.published, root / "notes.txt"):
        path.write_text("before")
    take(root, restart=True)
    assert directory.committed(0) == []
    standing = {".lock", "chunks", "notes.txt", "passes", "spec.json", "vectors"}
    assert {path.name for path in root.iterdir()} == standing


def test_a_restart_that_is_broken_off_leaves_no_vectors_of_other_chunks(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes last, the vectors went before the chunks that they were made of, and these before their spec."""
    removed: list[str] = []
    rmdir, sync = Path.rmdir, removal.sync_folder
    RunDirectory(root, SPEC, restart=False).release()
    commit = owned_directory.commit_bytes
    monkeypatch.setattr(removal, "sync_folder", lambda folder: (removed.append("synced"), sync(folder)))
    monkeypatch.setattr(Path, "rmdir", lambda path: (removed.append(path.name), rmdir(path)))
    monkeypatch.setattr(
        owned_directory, "commit_bytes", lambda path, data: (removed.append(path.name), commit(path, data))
    )
    RunDirectory(root, SPEC, restart=True).release()
    places = [removed.index(name) for name in ("vectors", "chunks", "spec.json")]
    assert places == sorted(places)
    assert [removed[place + 1] for place in places[:2]] == ["synced"] * 2


def test_partial_and_torn_segments_are_removed(root: Path) -> None:
    directory = take(root)
    whole(directory, "dense-a", 0, 1, 2, 3)
    folder = directory.layout.vector_folder("dense-a")
    directory.layout.vector_segment("dense-a", 1).write_bytes(b"PAR1 half of a file")
    directory.layout.vector_segment("dense-a", 3).write_bytes(b"PAR1")
    (folder / ".00004.parquet.tmp").write_bytes(b"half")
    (folder / ".mine.tmp").write_bytes(b"half")
    assert directory.committed(0) == [0, 2]
    assert {path.name for path in folder.iterdir()} == {"00000.parquet", "00002.parquet", ".mine.tmp"}


def test_a_pass_with_several_vectors_has_what_all_of_them_have(root: Path) -> None:
    directory = take(root, RunSpec(source="/corpus.jsonl", passes=(HEADS,), index="none"))
    for vector, segments in {"dense-m3": (0, 1, 2), "sparse-m3": (0, 2), "multivector-m3": (1, 2)}.items():
        whole(directory, vector, *segments)
    assert directory.committed(0) == [2]


def test_a_model_is_written_down_once_and_compared_from_then_on(root: Path) -> None:
    directory = take(root)
    assert directory.fingerprint(0) is None
    directory.begin_pass(0, fingerprint())
    assert directory.fingerprint(0) == fingerprint()
    assert about(directory)["fingerprint"] == fingerprint().digest()
    assert (about(directory)["output_dim"], about(directory)["storage"]) == (8, "float32")
    stamp = directory.layout.pass_file("dense-a").stat()
    directory.begin_pass(0, fingerprint(versions={"torch": "another"}))
    assert directory.layout.pass_file("dense-a").stat().st_ino == stamp.st_ino, "nothing to add"
    with pytest.raises(SpecMismatch, match="dense-a was computed with another model: pooling"):
        directory.begin_pass(0, fingerprint(pooling="cls"))
    assert directory.fingerprint(0) == fingerprint()


def test_each_place_of_a_model_is_noted_once(root: Path) -> None:
    directory = take(root)
    for placement in ("cuda", "cuda", "", "cpu", "cuda"):
        directory.begin_pass(0, fingerprint(), placement)
    assert about(directory)["placements"] == ["cuda", "cpu"]


def test_a_file_of_an_earlier_version_has_no_places_yet(root: Path) -> None:
    directory = take(root)
    directory.begin_pass(0, fingerprint())
    path = directory.layout.pass_file("dense-a")
    before = {name: value for name, value in about(directory).items() if name != "placements"}
    path.write_text(json.dumps(before | {"later": 1}))
    directory.begin_pass(0, fingerprint(), "cuda")
    assert about(directory)["placements"] == ["cuda"]
    assert about(directory) == before | {"later": 1, "placements": ["cuda"]}, "what stood there stands"


def test_the_vectors_of_one_model_say_their_own_forms(root: Path) -> None:
    directory = take(root, RunSpec(source="/corpus.jsonl", passes=(HEADS,), index="none"))
    directory.begin_pass(0, fingerprint(token_dim=5))
    said = {one.vector: about(directory, one.vector) for one in HEADS.outputs}
    assert {name: one["form"] for name, one in said.items()} == {
        "dense-m3": "dense",
        "sparse-m3": "sparse",
        "multivector-m3": "multivector",
    }
    assert [said[one.vector]["output_dim"] for one in HEADS.outputs] == [8, 0, 5]
    assert ["storage" in said[one.vector] for one in HEADS.outputs] == [True, False, False]


def test_a_damaged_pass_file_is_told(root: Path) -> None:
    directory = take(root)
    directory.layout.pass_file("dense-a").write_text('{"model": 1}')
    with pytest.raises(RunDirectoryError, match=r"dense-a\.json cannot be read .*; delete \S+ and the folder"):
        directory.fingerprint(0)


def test_ranges_that_an_older_version_kept_beside_the_fingerprint_stay_and_matter_to_nobody(root: Path) -> None:
    directory = take(root, RunSpec(source="s", passes=(PassSpec(vector="v", kind="dense", model="m", storage="int8"),)))
    directory.begin_pass(0, fingerprint())
    path = directory.layout.pass_file("v")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"ranges": {"low": [-1.0], "high": [0.5]}}))
    directory.begin_pass(0, fingerprint(), "cpu float32")
    assert directory.fingerprint(0) == fingerprint()
    assert about(directory, "v")["ranges"] == {"low": [-1.0], "high": [0.5]}


def test_an_ensemble_is_written_down_with_its_members_and_compared(root: Path) -> None:
    directory = take(root, JOINED)
    directory.begin_ensemble(BOTH, fingerprint(16))
    said = about(directory, BOTH.vector)
    assert (said["method"], said["members"], said["kind"]) == ("concat", ["dense-a", "dense-b"], "ensemble")
    directory.begin_ensemble(BOTH, fingerprint(16))
    with pytest.raises(SpecMismatch, match="ensemble-concat was computed with another model"):
        directory.begin_ensemble(BOTH, fingerprint(16, settings={"dense-a": 0.5}))


def test_where_nothing_was_computed_another_spec_takes_the_folder(root: Path) -> None:
    first = take(root)
    first.layout.chunk_segment(0).write_bytes(b"read for the other spec")
    other = msgspec.structs.replace(SPEC, limit=5)
    assert not take(root, other).layout.chunk_segment(0).exists()
    assert json.loads((root / "spec.json").read_bytes())["limit"] == 5


def test_a_run_goes_on_with_the_policy_that_it_began_with(root: Path) -> None:
    """Version 0.1.0 wrote none down; a new command has the latest one."""
    latest = msgspec.structs.replace(SPEC, preprocessing=LATEST)
    whole(take(root, SPEC), "dense-a", 0)
    assert b"preprocessing" not in RunLayout(root).spec.read_bytes()
    assert take(root, latest).spec == SPEC
    assert b"preprocessing" not in RunLayout(root).spec.read_bytes()
    # with one model more
    more = take(root, msgspec.structs.replace(latest, passes=(DENSE, OTHER)))
    assert (more.spec.preprocessing, len(more.spec.passes)) == (FIRST, 2)
    # how records are read may not change otherwise
    with pytest.raises(SpecMismatch, match="another spec: title_field: None → 'heading'"):
        take(root, msgspec.structs.replace(more.spec, preprocessing=LATEST, title_field="heading"))
    assert take(root, latest, restart=True).spec == latest
    assert msgspec.json.decode(RunLayout(root).spec.read_bytes(), type=RunSpec) == latest


def test_a_policy_of_a_later_version_is_refused(root: Path) -> None:
    whole(take(root, msgspec.structs.replace(SPEC, preprocessing="nfc-9")), "dense-a", 0)
    with pytest.raises(
        SpecMismatch, match="policy 'nfc-9' for reading records is not known to this build; use the version that began"
    ):
        take(root)
    assert take(root, restart=True).spec == SPEC
