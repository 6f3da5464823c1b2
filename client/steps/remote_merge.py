"""Merge the shards of a directory here or in object storage: a merge there that nothing has changed is not fetched."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path, PurePosixPath

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.merged_shards import unchanged_merge
from ...protocol.object_storage.address import is_address, parse_address
from ...protocol.object_storage.copies import copy_records, scratch_records
from ...protocol.object_storage.objects import ObjectFolder
from ...protocol.run_directory.layout import RunLayout, segment_numbers
from ...protocol.run_directory.records.merge import MergeSummary, OnDuplicate
from ...protocol.run_directory.records.shards import ShardsRecord, read_shards
from ..arguments import expand_path
from .remote_out import RemoteDirectory


def merge_at(
    path: str | PathLike[str],
    on_duplicate: OnDuplicate,
    say: Callable[[str], None],
    work: Callable[[Path], MergeSummary],
) -> MergeSummary:
    """The summary of `work`, which merges the shards in a folder: in `path` itself or, for an address, in a spool, into which
    they are fetched, and whose merged files are put into the store. If nothing has changed there, `work` is not called. `say`
    gets lines about it. RunDirectoryError for a path or an address that cannot be used."""
    if not is_address(path):
        return work(expand_path(path, "DIR", RunDirectoryError))
    address = parse_address(path, "DIR", RunDirectoryError)
    with RemoteDirectory(address, None, keep_spool=False).held("", say) as directory:
        with merged_records(directory.objects) as found:
            done = unchanged_there(directory.objects, *found, on_duplicate) if found is not None else None
            directory.is_needless = done is not None
        return done or work(directory.fetch())


@contextmanager
def merged_records(objects: ObjectFolder) -> Generator[tuple[RunLayout, ShardsRecord] | None]:
    """A temporary folder with copies of the records of a merged directory and of its shards, and the record of the shards. None
    if its shards were never merged. Messages name the address in the place of the folder."""
    names = RunLayout(Path())
    with scratch_records(objects, [names.shards_record.name, names.merge_record.name]) as root:
        layout = RunLayout(root)
        record = read_shards(layout)
        if record is None or not layout.merge_record.exists():
            yield None
            return
        shards = [layout.shard(index) for index in range(record.shards)]
        paths = [
            *(layout.spec, layout.manifest, layout.fit, layout.source, layout.limits, layout.intake),
            *(layout.pass_file(one.vector) for one in record.spec.outputs),
            layout.candidates_record,
            *(path for one in shards for path in (one.spec, one.manifest)),
        ]
        copy_records(objects, root, [path.relative_to(root).as_posix() for path in paths])
        yield layout, record


def unchanged_there(
    objects: ObjectFolder, records: RunLayout, shards: ShardsRecord, on_duplicate: OnDuplicate
) -> MergeSummary | None:
    """`unchanged_merge` for a directory in object storage, by its `merged_records` and the names of its segments."""
    return unchanged_merge(records, shards, on_duplicate, partial(_segments, objects, records.root))


def _segments(objects: ObjectFolder, root: Path, folder: Path) -> list[int]:
    """The numbers of the segments that the store has in the place of `folder`, which is below `root`."""
    place = PurePosixPath(folder.relative_to(root).as_posix())
    names = [PurePosixPath(one.name) for one in objects.list(str(place))]
    return segment_numbers(one.name for one in names if one.parent == place)
