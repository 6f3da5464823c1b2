"""The directory that a merge writes: keep the files of an earlier merge that are still right, and remove the others first.

`merge.json` says what each merged segment is made of, and is written before the segments. A file that exists is that of the
record, since files of other content are removed before the record is replaced. The collection is removed with them: its
points have the rows of all chunks. `spec.json` and `manifest.json` are removed before everything else and written last: a
folder without a spec is no run, so a half merge is never taken for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_bytes, make_folder, sync_folder
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.layout import RunLayout, segment_file, segments_in
from ...protocol.run_directory.own_files import is_chunk_file, is_intake_file, is_vector_file
from ...protocol.run_directory.records.merge import MergeRecord, read_merge
from ...protocol.run_directory.removal import remove_shard, remove_vectors
from ...protocol.spec.run_spec import RunSpec


class MergedDirectory:
    """The merged files below `layout.root`. RunDirectoryError if the folder has files of the same names that no merge made."""

    def __init__(self, layout: RunLayout, spec: RunSpec) -> None:
        self._layout, self._spec = layout, spec
        self._before = read_merge(layout)
        if self._before is None and (stray := next(self._strays(), None)) is not None:
            raise RunDirectoryError(
                f"{layout.root}: has {stray.relative_to(layout.root)}, which is not of a merge (there is no "
                f"{layout.merge_record.name}); move it away, and merge again"
            )

    def kept(self, record: MergeRecord) -> set[int]:
        """The merged segments whose files, as far as they exist, are those of `record`."""
        known = self._before.segments if self._before is not None else ()
        return {at for at, (old, new) in enumerate(zip(known, record.segments, strict=False)) if old == new}

    def begin(self, record: MergeRecord) -> None:
        """Remove what does not belong to the merge of `record`, and write the record."""
        layout = self._layout
        for path in (layout.spec, layout.manifest):  # without its spec, nobody opens the folder
            path.unlink(missing_ok=True)
            sync_folder(layout.root)
        changed = self._before is None or (self._before.segments, self._before.vectors) != (
            record.segments,
            record.vectors,
        )
        if changed or self._spec.index == "none":
            layout.published.unlink(missing_ok=True)
            sync_folder(layout.root)  # first: a shard without a record of its segments is made anew
            remove_shard(layout)
        if changed:
            self._remove_others(record)
        for folder in (layout.chunks, layout.intake_folder, layout.passes, *map(layout.vector_folder, record.vectors)):
            make_folder(folder)
        self._remove_partials()
        commit_bytes(layout.merge_record, pretty_json(record))
        self._before = record

    def finish(self) -> None:
        """Write the spec. Only the manifest is missing then."""
        commit_bytes(self._layout.spec, pretty_json(self._spec))

    @property
    def _vectors(self) -> list[str]:
        return [one.vector for one in self._spec.outputs]

    def _remove_others(self, record: MergeRecord) -> None:
        """Remove segments that are made of something else, for certain, and vectors that the spec no longer has."""
        layout, same = self._layout, self.kept(record)
        old = self._before.vectors if self._before is not None else ()
        remove_vectors(layout, [name for name in old if name not in record.vectors])
        for name in record.vectors:
            for segment in set(segments_in(layout.vector_folder(name))) - same:
                layout.vector_segment(name, segment).unlink()
            _sync(layout.vector_folder(name))
        for segment in set(segments_in(layout.chunks)) - same:
            layout.chunk_segment(segment).unlink()
        for segment in layout.rejected_segments():
            if segment > len(record.segments):
                layout.rejected_segment(segment).unlink()
        for folder in (layout.chunks, layout.intake_folder):
            _sync(folder)

    def _remove_partials(self) -> None:
        """Remove what a killed merge was writing."""
        layout = self._layout
        _remove_hidden(layout.chunks, is_chunk_file)
        _remove_hidden(layout.intake_folder, is_intake_file)
        for name in self._vectors:
            _remove_hidden(layout.vector_folder(name), is_vector_file)

    def _strays(self) -> Iterator[Path]:
        """Files of a run that no merge has written."""
        layout = self._layout
        yield from (path for path in (layout.manifest, layout.spec) if path.exists())
        for folder in (layout.chunks, *map(layout.vector_folder, self._vectors)):
            yield from (folder / segment_file(segment) for segment in segments_in(folder)[:1])


def _remove_hidden(folder: Path, own: Callable[[str], bool]) -> None:
    for path in folder.glob(".*.tmp"):
        if own(path.name):
            path.unlink()


def _sync(folder: Path) -> None:
    if folder.is_dir():
        sync_folder(folder)
