"""Which files of a run directory are the run's own, by name, and the removing of these and of nothing else.

Whoever keeps notes in a run directory keeps them: what no run writes is never removed, and nothing through a symbolic link.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from .durable import sync_folder
from .errors import RunDirectoryError
from .json_bytes import decode_json
from .layout import RunLayout, set_aside
from .spec import RunSpec, is_name

_SEGMENT = re.compile(r"\d{5,}\.(parquet|parquet\.damaged|rejected\.jsonl)", re.ASCII)
_PARTIAL = re.compile(r"\.(.+)\.tmp")
_CHUNKS = {"limits.json", "intake.json", "source.json", "source.sha256", ".ids.sqlite"}
_SCRATCH = {".rejected.tmp", ".ids.sqlite-journal", ".ids.sqlite-wal", ".ids.sqlite-shm"}
_SHARD_FOLDERS = ("segments", "wal")
_RERANK = {"candidates.parquet", "pairs.jsonl", "candidates.json", "ranking.parquet", "rerank_run.json", "report.json"}
_FOLDERS = ("chunks", "vectors", "qdrant", "queries", "rerank", "export")
_DERIVED = ("stats.json", "events.jsonl", "quarantine.jsonl", "published.json")
_TOP = {"spec.json", "manifest.json", *_DERIVED}


def read_owner(layout: RunLayout) -> RunSpec | None:
    """The spec that says whose directory it is; None where there is none. RunDirectoryError where it is no spec of a run."""
    try:
        spec = decode_json(layout.spec.read_bytes(), RunSpec)
        if not spec.passes:
            raise ValueError("it names no model")
        if found := [one.vector for one in spec.outputs if not is_name(one.vector)]:
            raise ValueError(f"{found[0]!r} is no name of a vector")  # it could lead out of the directory
    except FileNotFoundError:
        return None
    except ValueError as error:  # msgspec raises a plain one where the bytes are no UTF-8
        raise RunDirectoryError(
            f"{layout.spec} is no spec of a run ({error}), so nobody knows whose files stand beside it: nothing there was "
            "touched. Restore that file, give another folder, or delete this one yourself"
        ) from error
    return spec


def is_foreign(layout: RunLayout) -> bool:
    """Whether a folder without a spec holds something. All that a power cut in its first moment may leave is a lock and the
    beginning of a file."""
    return any(
        path.name != layout.lock.name and not _is_partial(path.name, _TOP.__contains__)
        for path in layout.root.iterdir()
    )


def find_link(layout: RunLayout, spec: RunSpec) -> Path | None:
    """A symbolic link under a name of the run's own; None where there is none."""
    return next(_links(layout, [one.vector for one in spec.outputs]), None)


def refuse_link(path: Path) -> RunDirectoryError:
    """What people hear of it."""
    return RunDirectoryError(
        f"{path} is a symbolic link: a run removes and writes its files where they stand, not where a link points. Put what it "
        "points to there, or give another folder"
    )


def top_link(layout: RunLayout) -> Path | None:
    """As `find_link`, among the names at the top alone."""
    return next((path for path in _top(layout) if path.is_symlink()), None)


def holds_source(layout: RunLayout, source: str) -> bool:
    """Whether a source lies in the folders that `clear_run` empties."""
    inside = Path(source).resolve()
    return any(inside.is_relative_to(path.resolve()) for path in _top(layout))


def clear_run(layout: RunLayout, spec: RunSpec) -> None:
    """Remove what a run wrote but its lock and its spec, which tells the directory from somebody else's.

    The manifest goes before what it describes, and what was made of the chunks before them: at no moment, and after no power
    cut, could vectors of these chunks be taken for those of others.
    """
    _remove(layout.root, {"manifest.json"}.__contains__)
    sync_folder(layout.root)
    _remove_export(layout)  # by records that stand in other folders
    _remove(layout.root, set(_DERIVED).__contains__)
    remove_shard(layout)
    for folder in (layout.queries, set_aside(layout.queries)):
        remove_run(folder)
    for folder in (layout.scores, set_aside(layout.scores)):
        if not layout.rerank.is_symlink():
            remove_run(folder)
    _remove_folder(layout.rerank, _RERANK.__contains__)
    remove_vectors(layout, [one.vector for one in spec.outputs])
    sync_folder(layout.root)
    _remove_folder(layout.chunks, _is_chunks)
    sync_folder(layout.root)


def remove_run(root: Path) -> None:
    """Remove a run directory that another one has inside. What its spec does not vouch for stays, and so does what no run
    writes."""
    layout = RunLayout(root)
    if root.is_symlink() or not root.is_dir():
        return
    try:
        spec = read_owner(layout)
    except RunDirectoryError:
        return
    if spec is not None:
        clear_run(layout, spec)
        if any(path not in (layout.spec, layout.lock) for path in root.iterdir()):
            return  # with its spec, which says whose the folder is: the next run there would be refused without
        layout.spec.unlink()
    if spec is not None or not is_foreign(layout):
        layout.lock.unlink(missing_ok=True)
        _remove_folder(root, _TOP.__contains__)


def foreign_files(root: Path) -> list[Path]:
    """What stands in the run directory of queries or pairs and no run wrote, as far as its names tell."""
    layout = RunLayout(root)
    own = {layout.chunks.name, layout.vectors.name, layout.lock.name}
    found = [
        *_others(root, lambda name: name in own or _is_own(name, _TOP.__contains__)),
        *_others(layout.chunks, _is_chunks),
    ]
    for folder in layout.vectors.iterdir() if layout.vectors.is_dir() else ():
        found += _others(folder, is_vectors) if folder.is_dir() else [folder]
    return sorted(found)


def remove_vectors(layout: RunLayout, names: Iterable[str]) -> None:
    """Remove the segments of these vectors, and what is said of them."""
    if layout.vectors.is_symlink():
        return
    for name in names:
        _remove_folder(layout.vector_folder(name), is_vectors)
    _remove_folder(layout.vectors, lambda _name: False)


def remove_shard(layout: RunLayout) -> None:
    """Remove the files of the engine."""
    if layout.edge.is_symlink() or not layout.edge.is_dir():
        return
    for name in _SHARD_FOLDERS:
        if (layout.edge / name).is_dir() and not (layout.edge / name).is_symlink():
            shutil.rmtree(layout.edge / name)
    _remove_folder(layout.edge, {"edge_config.json"}.__contains__)


def is_vectors(name: str) -> bool:
    """Whether a run writes files of this name into the folder of a vector, or leaves them there when it is killed."""
    return _is_own(name, lambda one: one == "pass.json" or _SEGMENT.fullmatch(one) is not None)


def is_scratch_of_chunks(name: str) -> bool:
    """Whether it is what a killed intake leaves in `chunks`."""
    return name in _SCRATCH or _is_partial(name, _is_chunks)


def is_partial(path: Path) -> bool:
    """Whether it is what a write that was cut short may have left of a file of a run: by its name, and its folder's."""
    match path.parent.name:
        case "chunks":
            return is_scratch_of_chunks(path.name)
        case folder if path.parent.parent.name == "vectors" and folder:
            return _is_partial(path.name, is_vectors)
        case _:
            return _PARTIAL.fullmatch(path.name) is not None


def _is_chunks(name: str) -> bool:
    return name in _SCRATCH or _is_own(name, lambda one: one in _CHUNKS or _SEGMENT.fullmatch(one) is not None)


def _is_own(name: str, own: Callable[[str], bool]) -> bool:
    return own(name) or _is_partial(name, own)


def _is_partial(name: str, own: Callable[[str], bool]) -> bool:
    """Whether it is where a file of one's own is written before it gets its name."""
    found = _PARTIAL.fullmatch(name)
    return found is not None and own(found[1])


def _top(layout: RunLayout) -> Iterator[Path]:
    for name in (*_FOLDERS, *_TOP, layout.lock.name, set_aside(layout.queries).name):
        yield layout.root / name


def _links(layout: RunLayout, vectors: Iterable[str]) -> Iterator[Path]:
    yield from (path for path in _top(layout) if path.is_symlink())
    folders = [(layout.vector_folder(name), is_vectors) for name in vectors]
    yield from (folder for folder, _ in folders if folder.is_symlink())
    shard = {*_SHARD_FOLDERS, "edge_config.json"}
    rerank = {*_RERANK, layout.scores.name, set_aside(layout.scores).name}
    more = [(layout.chunks, _is_chunks), (layout.edge, shard.__contains__), (layout.rerank, rerank.__contains__)]
    for folder, own in [*folders, *more]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            yield from (Path(one.path) for one in entries if one.is_symlink() and own(one.name))


def _others(folder: Path, own: Callable[[str], bool]) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not own(path.name)) if folder.is_dir() else iter(())


def _remove(folder: Path, own: Callable[[str], bool]) -> None:
    """Remove the files of these names, and what was to become one."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for one in list(entries):
            if one.is_file(follow_symlinks=False) and _is_own(one.name, own):
                os.unlink(one.path)


def _remove_folder(folder: Path, own: Callable[[str], bool]) -> None:
    """Remove these, and the folder where nothing else stands in it."""
    if folder.is_symlink() or not folder.is_dir():
        return
    _remove(folder, own)
    try:
        folder.rmdir()
    except OSError:  # somebody else's files are in it
        sync_folder(folder)


class _File(msgspec.Struct, frozen=True):
    name: str


class _Record(msgspec.Struct, frozen=True):
    files: list[_File]


def _remove_export(layout: RunLayout) -> None:
    """What the records of exports and of evaluations name."""
    names = {layout.export_record.name}
    for path in (layout.export_record, layout.report_record):
        with contextlib.suppress(OSError, ValueError):
            names |= {one.name for one in decode_json(path.read_bytes(), _Record).files}
    _remove_folder(layout.export, names.__contains__)
