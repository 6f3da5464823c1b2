"""Remove the files that a run wrote into its directory, and nothing else.

Files that no run writes, such as a user's notes, are never removed, and nothing is removed through a symbolic link.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import RunDirectoryError
from ..spec.run_spec import RunSpec
from .atomic_files import partial_of, sync_folder
from .exported_files import recorded_names
from .layout import RunLayout, being_removed, set_aside
from .own_files import (
    DERIVED,
    RERANK,
    SHARD_FOLDERS,
    TOP,
    foreign_files,
    is_chunk_file,
    is_foreign,
    is_intake_file,
    is_own,
    is_segment,
    is_vector_file,
    memory_maps,
    pass_files,
    read_owner,
)


def clear_run(layout: RunLayout, spec: RunSpec) -> None:
    """Remove what a run wrote, except its lock and its spec, which marks the directory as a run's.

    The manifest is removed before the files that it describes, and everything derived from the chunks before the chunks. So
    even after a power cut, old vectors are never taken for those of new chunks.
    """
    _remove(layout.root, {"manifest.json"}.__contains__)
    sync_folder(layout.root)
    _remove_export(layout)  # while the records that list its files are there
    _remove(layout.root, set(DERIVED).__contains__)
    remove_shard(layout)
    for folder in (layout.queries, set_aside(layout.queries)):
        remove_run(folder)
    remove_rest(being_removed(layout.queries))
    if not layout.rerank.is_symlink():
        for folder in (layout.scores, set_aside(layout.scores)):
            remove_run(folder)
        remove_rest(being_removed(layout.scores))
    _remove_folder(layout.rerank, RERANK.__contains__)
    remove_vectors(layout, [one.vector for one in spec.outputs])
    sync_folder(layout.root)
    _remove_folder(layout.chunks, is_chunk_file)
    sync_folder(layout.root)
    _remove_folder(layout.intake_folder, is_intake_file)


def remove_run(root: Path) -> None:
    """Remove a run directory inside another one. Files that no run writes stay; so does a folder with an invalid spec."""
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
            return  # the spec stays too: without it, the next run in this folder would be refused
        layout.spec.unlink()
    if spec is not None or not is_foreign(layout):
        layout.lock.unlink(missing_ok=True)
        _remove_folder(root, TOP.__contains__)


def remove_rest(folder: Path) -> None:
    """Remove the rest of a derived run directory whose removal was interrupted; it may lack its spec."""
    if folder.is_dir() and not folder.is_symlink() and not foreign_files(folder):
        shutil.rmtree(folder)


def remove_vectors(layout: RunLayout, names: Iterable[str]) -> None:
    """Remove the segments of these vectors, their copies in `cache`, and then the records of their passes."""
    vectors = set(names)
    if not layout.vectors.is_symlink():
        for name in sorted(vectors):
            _remove_folder(layout.vector_folder(name), is_vector_file)
        _remove_folder(layout.vectors, lambda _name: False)
        sync_folder(layout.root)
    _remove_folder(layout.cache, memory_maps(vectors))
    _remove_folder(layout.passes, pass_files(vectors))


def remove_shard(layout: RunLayout) -> None:
    """Remove the Edge shard: the files of the engine."""
    if layout.edge.is_symlink() or not layout.edge.is_dir():
        return
    for name in SHARD_FOLDERS:
        if (layout.edge / name).is_dir() and not (layout.edge / name).is_symlink():
            shutil.rmtree(layout.edge / name)
    _remove_folder(layout.edge, {"edge_config.json"}.__contains__)


def remove_report(layout: RunLayout) -> None:
    """Remove the files of an evaluation, as its record names them."""
    with contextlib.suppress(OSError, ValueError):
        for name in recorded_names(layout.report_record) & {layout.report.name, layout.evaluation.name}:
            (layout.export / name).unlink(missing_ok=True)
    layout.report_record.unlink(missing_ok=True)


def remove_table(folder: Path) -> None:
    """Remove the parts of a table that is being written or was replaced, and the folder."""
    _remove_folder(folder, is_segment)


def _remove_export(layout: RunLayout) -> None:
    """Remove the files that the records of exports and of evaluations name."""
    names = {layout.export_record.name}
    for path in (layout.export_record, layout.report_record):
        with contextlib.suppress(OSError, ValueError):
            names |= recorded_names(path)
    if not layout.export.is_symlink():
        parts = f"{layout.table.name}/"
        _remove_folder(
            layout.table, {name.removeprefix(parts) for name in names if name.startswith(parts)}.__contains__
        )
        for folder in (partial_of(layout.table), set_aside(layout.table)):
            remove_table(folder)
    _remove_folder(layout.export, names.__contains__)


def _remove(folder: Path, own: Callable[[str], bool]) -> None:
    """Remove the files of these names, and their partial files."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for one in list(entries):
            if one.is_file(follow_symlinks=False) and is_own(one.name, own):
                os.unlink(one.path)


def _remove_folder(folder: Path, own: Callable[[str], bool]) -> None:
    """Remove the files of these names, then the folder if it is empty."""
    if folder.is_symlink() or not folder.is_dir():
        return
    _remove(folder, own)
    try:
        folder.rmdir()
    except OSError:  # it has other files
        sync_folder(folder)
