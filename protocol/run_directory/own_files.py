"""Decide by name which files of a run directory the run wrote. `removal.py` removes only these."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from ..errors import RunDirectoryError
from ..spec.run_spec import RunSpec, is_name
from .json_bytes import decode_json
from .layout import RunLayout, set_aside

_SEGMENT = re.compile(r"\d{5,}\.parquet", re.ASCII)
_BESIDE_SEGMENTS = re.compile(r"\d{5,}\.(parquet\.damaged|rejected\.jsonl)", re.ASCII)
_OF_PASS = re.compile(r"(.+?)(\.json|\.\d{5,}\.parquet\.damaged)", re.ASCII)
_MEMORY_MAP = re.compile(r"(.+)\.[0-9a-f]{16}\.float(16|32)\.npy(\.[0-9-]+)?", re.ASCII)
"""The partial file has the numbers of the process and the thread that write it."""
_PARTIAL = re.compile(r"\.(.+)\.tmp")
_INTAKE = {"limits.json", "counts.json", "source.json", "source.sha256", ".ids.sqlite"}
_EARLIER = {"limits.json", "intake.json", "source.json", "source.sha256", ".ids.sqlite"}
"""In `chunks`, by earlier versions."""
_SCRATCH = {".rejected.tmp", ".ids.sqlite-journal", ".ids.sqlite-wal", ".ids.sqlite-shm"}
SHARD_FOLDERS = ("segments", "wal")
RERANK = {"candidates.parquet", "pairs.jsonl", "candidates.json", "ranking.parquet", "rerank_run.json", "report.json"}
_FOLDERS = ("chunks", "intake", "vectors", "passes", "cache", "qdrant", "queries", "rerank", "export")
SHARDS = {"shards.json", "merge.json", "fit.json"}
"""The records of a directory that is made of shards. A run never removes them, nor the folder `shards` beside them."""
DERIVED = ("stats.json", "events.jsonl", "quarantine.jsonl", "published.json")
TOP = {"spec.json", "manifest.json", *DERIVED}


def read_owner(layout: RunLayout) -> RunSpec | None:
    """The spec in the directory; None if there is none. RunDirectoryError if it is not a run's spec."""
    try:
        if layout.spec.exists() and not layout.spec.is_file():  # opening a pipe would wait for a writer
            raise ValueError(f"it is {file_kind(layout.spec)}")
        spec = decode_json(layout.spec.read_bytes(), RunSpec)
        if not spec.passes:
            raise ValueError("it names no model")
        if found := [one.vector for one in spec.outputs if not is_name(one.vector)]:
            raise ValueError(f"{found[0]!r} is not a vector's name")  # its path could lead out of the directory
    except FileNotFoundError:
        return None
    except ValueError as error:  # msgspec raises a plain one where the bytes are no UTF-8
        raise RunDirectoryError(
            f"{layout.spec} is not the spec of a run ({error}), so the files beside it may be somebody else's: nothing there "
            "was touched. Restore that file, give another folder, or delete this one yourself"
        ) from error
    return spec


def holds_run(root: Path) -> bool:
    """Whether a folder is a run directory: it has shards, a valid spec or, if that is lost or damaged, the limits of its
    segments."""
    layout = RunLayout(root)
    if layout.shards_record.is_file():
        return True
    try:
        return read_owner(layout) is not None or layout.limits.is_file()
    except (RunDirectoryError, OSError):
        return layout.limits.is_file()


def is_foreign(layout: RunLayout) -> bool:
    """Whether a folder without a spec has files that are not a new run's: a power cut at the beginning of a run leaves at
    most a lock and a partial file."""
    return any(
        path.name != layout.lock.name and not _is_partial(path.name, (TOP | SHARDS).__contains__)
        for path in layout.root.iterdir()
    )


def find_wrong_kind(layout: RunLayout, vectors: Iterable[str] = (), *, links: bool = True) -> Path | None:
    """The first path with a name that the run uses (also for `vectors`) but of the wrong kind: a folder instead of a file, a
    pipe, or a symbolic link; None if there is none. `links` False allows links, which are safe for reading only."""
    return next(_wrong_kinds(layout, vectors, links), None)


def wrong_kind_error(path: Path) -> RunDirectoryError:
    """The error for a path of the wrong kind."""
    if path.is_symlink():
        return RunDirectoryError(
            f"{path} is a symbolic link, and a run neither writes nor removes files through links. "
            "Put the link's target there, or give another folder"
        )
    return RunDirectoryError(
        f"{path} is {file_kind(path)}, and a run has something else of that name. Move it away, or give another folder"
    )


def file_kind(path: Path) -> str:
    """The kind of file at a path, as words for a message."""
    return "a folder" if path.is_dir() else "a file" if path.is_file() else "a pipe, socket or device"


def holds_source(layout: RunLayout, source: str) -> bool:
    """Whether a source is among the files that `clear_run` removes."""
    inside = Path(source).resolve()
    names = (*_FOLDERS, *TOP, layout.lock.name, set_aside(layout.queries).name)
    return any(inside.is_relative_to((layout.root / name).resolve()) for name in names)


def foreign_files(root: Path) -> list[Path]:
    """Files in the run directory of queries or pairs that no run wrote, by their names."""
    layout = RunLayout(root)
    folders = (layout.chunks, layout.intake_folder, layout.vectors, layout.passes, layout.cache)
    own = {layout.lock.name, *(folder.name for folder in folders)}
    found = [
        *_others(root, lambda name: name in own or is_own(name, TOP.__contains__)),
        *_others(layout.chunks, is_chunk_file),
        *_others(layout.intake_folder, is_intake_file),
        *_others(layout.passes, pass_files()),
        *_others(layout.cache, memory_maps()),
    ]
    for folder in layout.vectors.iterdir() if layout.vectors.is_dir() else ():
        found += _others(folder, is_vector_file) if folder.is_dir() else [folder]
    return sorted(found)


def is_vector_file(name: str) -> bool:
    """Whether a run, even a killed one or one of an earlier version, leaves files of this name in the folder of a vector."""
    return is_own(name, lambda one: one == "pass.json" or is_segment(one) or _is_beside_segments(one))


def is_chunk_file(name: str) -> bool:
    """Whether a run, even a killed one or one of an earlier version, leaves files of this name in `chunks`."""
    return name in _SCRATCH or is_own(name, lambda one: one in _EARLIER or is_segment(one) or _is_beside_segments(one))


def is_intake_file(name: str) -> bool:
    """Whether a run, even a killed one, leaves files of this name in `intake`."""
    return name in _SCRATCH or is_own(name, lambda one: one in _INTAKE or _is_beside_segments(one))


def is_intake_scratch(name: str) -> bool:
    """Whether a killed intake may leave a file of this name in `chunks` or `intake`."""
    return name in _SCRATCH or _is_partial(name, is_chunk_file) or _is_partial(name, is_intake_file)


def pass_files(vectors: Collection[str] | None = None) -> Callable[[str], bool]:
    """Whether a run has files of a name in `passes`, for these vectors; None: for any."""
    return lambda name: is_own(name, lambda one: _is_of(_OF_PASS.fullmatch(one), vectors))


def memory_maps(vectors: Collection[str] | None = None) -> Callable[[str], bool]:
    """Whether `Run.memmap` leaves files of a name in `cache`, for these vectors; None: for any."""
    return lambda name: is_own(name, lambda one: _is_of(_MEMORY_MAP.fullmatch(one), vectors))


def _is_of(found: re.Match[str] | None, vectors: Collection[str] | None) -> bool:
    return found is not None and (is_name(found[1]) if vectors is None else found[1] in vectors)


def is_segment(name: str) -> bool:
    """Whether it is the name of a segment file."""
    return _SEGMENT.fullmatch(name) is not None


def _is_beside_segments(name: str) -> bool:
    return _BESIDE_SEGMENTS.fullmatch(name) is not None


def is_partial(path: Path) -> bool:
    """Whether it is a partial file of an interrupted write, by its name and its folder's."""
    match path.parent.name:
        case "chunks" | "intake":
            return is_intake_scratch(path.name)
        case folder if path.parent.parent.name == "vectors" and folder:
            return _is_partial(path.name, is_vector_file)
        case _:
            return _PARTIAL.fullmatch(path.name) is not None


def is_own(name: str, own: Callable[[str], bool]) -> bool:
    return own(name) or _is_partial(name, own)


def _is_partial(name: str, own: Callable[[str], bool]) -> bool:
    """Whether `name` is the temporary name of a file that `own` accepts."""
    found = _PARTIAL.fullmatch(name)
    return found is not None and own(found[1])


def _wrong_kinds(layout: RunLayout, vectors: Iterable[str], links: bool) -> Iterator[Path]:
    top = {*_FOLDERS, set_aside(layout.queries).name}
    shard, rerank = set[str](SHARD_FOLDERS), {layout.scores.name, set_aside(layout.scores).name}
    names = set(vectors)
    look: list[tuple[Path, set[str], Callable[[str], bool]]] = [
        (layout.root, top, lambda name: name == layout.lock.name or is_own(name, (TOP | SHARDS).__contains__)),
        (layout.chunks, set(), is_chunk_file),
        (layout.intake_folder, set(), is_intake_file),
        (layout.vectors, names, lambda _name: False),
        *((layout.vector_folder(name), set[str](), is_vector_file) for name in sorted(names)),
        (layout.passes, set(), pass_files(names)),
        (layout.cache, set(), memory_maps(names)),
        (layout.edge, shard, {"edge_config.json"}.__contains__),
        (layout.rerank, rerank, RERANK.__contains__),
    ]
    for folder, folders, is_file in look:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for one in entries:
                if one.is_symlink():
                    odd = links and (one.name in folders or is_file(one.name))
                elif one.is_dir():
                    odd = one.name not in folders and is_file(one.name)
                else:
                    odd = one.name in folders or (not one.is_file() and is_file(one.name))
                if odd:
                    yield Path(one.path)


def _others(folder: Path, own: Callable[[str], bool]) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not own(path.name)) if folder.is_dir() else iter(())
