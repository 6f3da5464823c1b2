"""Check that a source is still what an intake read: by size and time, and if only the times differ, by digests.

`intake/source.json` lists the files as they were when the intake began. The digests are in the segments (`Passed`) and, for
files after the last segment, in `intake/counts.json`. A directory of 0.1.0 has no digests; there the times decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..errors import RunDirectoryError, SourceError, is_host_failure
from ..run_directory.atomic_files import commit_bytes, make_folder
from ..run_directory.json_bytes import decode_json
from ..run_directory.layout import RunLayout, segments_in
from ..run_directory.records.intake import FileStamp, read_intake
from ..run_directory.run_json import read_spec
from ..run_directory.segment_info import ChunkSegmentInfo, Cursor, Passed
from .corpus import STDIN, Corpus
from .source_file import SourceFile
from .unpacked import digest_of


@dataclass(slots=True)
class Trail:
    """How far the committed segments have read the source, and the digests of what they read."""

    segments: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    finished: list[str] = field(default_factory=list[str])
    """Digests of the files before the cursor's file; of all files if the intake is `whole`."""
    marks: list[tuple[Cursor, Passed]] = field(default_factory=list[tuple[Cursor, Passed]])
    """Cursor and digests of each segment that has digests."""
    whole: bool = False
    """Whether the intake has ended and all its segments are there."""
    old: bool = False
    """Whether 0.1.0 wrote some of the segments."""
    later: dict[Cursor, Passed] = field(default_factory=dict[Cursor, Passed])
    """Digests of segments after a missing one. The source is read again from the gap; their vectors are kept."""
    read_beyond: bool = False
    """Whether vectors exist for rows after the last segment."""

    @property
    def passed(self) -> Passed:
        """The digests at the cursor."""
        return self.marks[-1][1] if self.marks and self.marks[-1][0] == self.cursor else Passed()

    def add(self, segment: int, info: ChunkSegmentInfo) -> None:
        """Add a segment. Call it in the order of their numbers."""
        cursor, passed = info.cursor, info.passed
        if segment != self.segments:
            if passed is not None:
                self.later[cursor] = passed
            return
        self.old |= passed is None
        self.finished += passed.finished if passed is not None else ()
        if len(self.finished) != cursor.file:
            self.finished = [""] * cursor.file
        if passed is not None:
            self.marks.append((cursor, passed))
        self.segments, self.cursor = self.segments + 1, cursor


def fingerprint(files: list[SourceFile]) -> list[FileStamp]:
    """Path, size, time and part of each file, in order. A resume compares them."""
    return [FileStamp(file.name, file.size, file.mtime_ns, file.e_tag, file.start, file.end) for file in files]


def note_stamps(layout: RunLayout, files: list[SourceFile]) -> None:
    """Commit `source.json` for these files."""
    make_folder(layout.source.parent)
    commit_bytes(layout.source, msgspec.json.encode(fingerprint(files)))


def first_difference(before: list[FileStamp], now: list[FileStamp]) -> str | None:
    """The first difference of two fingerprints other than in times and content; None if there is none."""
    old, new = {one.path: one for one in before}, {one.path: one for one in now}
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            return f"{path} is gone"
        if path not in old:
            return f"{path} is new"
        if old[path].size != new[path].size:
            return f"{path} had {old[path].size} bytes and has {new[path].size}"
        if (old[path].start, old[path].end) != (new[path].start, new[path].end):
            return f"{path} is divided among shards at other bytes"
    return None if [one.path for one in before] == [one.path for one in now] else "the order of the files"


def is_other_content(before: FileStamp, now: FileStamp | SourceFile) -> bool:
    """Whether the store of a remote file says of both that they have different contents."""
    return bool(before.e_tag and now.e_tag and before.e_tag != now.e_tag)


def shards_difference(before: Sequence[FileStamp], now: Sequence[FileStamp]) -> str | None:
    """The first difference of the files that two shards of a source found; None if there is none.

    Nobody reads a file again that another shard has read: what the store says of its content decides.
    """
    if (difference := first_difference(list(before), list(now))) is not None:
        return difference
    changed = (old.path for old, new in zip(before, now, strict=True) if is_other_content(old, new))
    return next((f"{path} has other content" for path in changed), None)


def read_trail(layout: RunLayout) -> Trail:
    """The Trail of a run directory, from its segments. RunDirectoryError for one that cannot be read now."""
    trail = Trail()
    for segment in segments_in(layout.chunks):
        from ..run_directory.tables import read_info  # loads Arrow (0.15 s), which a new run does not need

        try:
            info = read_info(layout.chunk_segment(segment), ChunkSegmentInfo)
        except RunDirectoryError as error:
            if is_host_failure(error):
                raise
            continue
        trail.add(segment, info)
    ours = (folder for folder in layout.vectors.glob("*/") if layout.pass_file(folder.name).exists())
    vectors = [number for folder in ours for number in segments_in(folder)]
    trail.read_beyond = any(number >= trail.segments for number in vectors)
    try:
        intake = read_intake(layout)
    except RunDirectoryError:
        return trail
    trail.whole = intake is not None and intake.complete and intake.segments == trail.segments
    if trail.whole and intake is not None:
        trail.finished += intake.finished
    return trail


def was_read(out: Path, source: str) -> bool:
    """Whether the run in `out` has read this source to its end and does not need it any more."""
    layout = RunLayout(out)
    try:
        return read_spec(layout).source == source and read_trail(layout).whole
    except RunDirectoryError:
        return False


def unchanged_files(source: str, corpus: Corpus, layout: RunLayout) -> list[SourceFile] | None:
    """The files that the intake of `layout` began with, if all are unchanged; None if nothing was read from them yet.

    SourceError if they have changed. Files that differ only in time are compared by content, and their new time is recorded.
    If `source.json` is missing or damaged, all files are compared by content, and it is written again.
    """
    path, files, before = layout.source, corpus.files, read_stamps(layout)
    if fingerprint(files) == before:
        return files
    trail = read_trail(layout)
    if not (trail.segments or trail.whole or trail.read_beyond):
        return None  # nothing was read from it
    if before is None:
        if source != STDIN and (unknown := _content_difference(files, trail)):  # a stream is compared while it is read
            raise SourceError(
                f"{path} is gone or damaged, and {unknown}; put {source} back as it was, or start over with --restart"
            )
        note_stamps(layout, files)
        return files
    if trail.old:
        files = _files_of_0_1(corpus, before)
    difference = first_difference(before, fingerprint(files)) or _other_content(files, before, trail)
    if difference is not None:
        raise SourceError(source_changed_message(source, difference))
    if fingerprint(files) != before:
        note_stamps(layout, files)
    return files


def difference_while_read(file: SourceFile, digest: str) -> str | None:
    """How a file that was just read to its end differs from the one that was found at first; None if it does not.

    `digest` is that of the bytes that were read; only if the file's time has changed is it read again. A file that is gone
    was read to its end.
    """
    if file.path is None:
        return None
    try:
        state = file.path.stat()
    except OSError:
        return None
    if state.st_size != file.size:
        return f"{file.name} had {file.size} bytes and has {state.st_size}"
    if state.st_mtime_ns != file.mtime_ns and digest_of(file) != digest:
        return f"{file.name} has other content"
    return None


def is_moved(source: str, corpus: Corpus, layout: RunLayout) -> bool:
    """Whether a corpus in another place is the one that the intake of `layout` read: the same names, sizes and content.

    False if only part of it was read and folder names are metadata: the rest would get another folder's name.
    """
    trail, before = read_trail(layout), read_stamps(layout)
    if source == STDIN or trail.old or not trail.segments:
        return False
    if before is not None and first_difference(before, fingerprint(corpus.files)) is not None:
        return False
    if not trail.whole and any(file.collection is not None for file in corpus.files):
        return False
    return not _content_difference(corpus.files, trail)


def read_stamps(layout: RunLayout) -> list[FileStamp] | None:
    """The files of the source as they were when the intake began; None if `source.json` is missing or damaged."""
    try:
        return decode_json(layout.source.read_bytes(), list[FileStamp])
    except (ValueError, OSError):
        return None


def _content_difference(files: list[SourceFile], trail: Trail) -> str:
    """Why these files may not be the ones that were read, by content alone; empty if they are the same."""
    read = max(len(trail.finished), trail.cursor.file + 1 if trail.segments else 0)
    if len(files) < read:
        return f"the source has {len(files):,} files where {read:,} were read"
    if trail.whole and len(trail.finished) > trail.cursor.file and len(files) > read:  # it did not end with --limit
        return f"{files[read].name} was not read"
    for at, file in enumerate(files):
        if not _has_same_content(file, at, trail):
            return f"{file.name} is not known to be what was read"
    return ""


def source_changed_message(source: str, difference: str) -> str:
    """The message for a source that has changed since the intake began."""
    return (
        f"{source}: the source changed since its intake began: {difference}; "
        "put it back as it was, or start over with --restart"
    )


def other_stream_message(how: str) -> str:
    """The message for another standard input than the run began with; `how` is the difference."""
    return (
        f"standard input is another stream than the one that this run began with: it {how}; "
        "give the same stream again, another --out, or --restart"
    )


def _files_of_0_1(corpus: Corpus, before: list[FileStamp]) -> list[SourceFile]:
    """The files that 0.1.0 read: without those that it skipped, with links to files that are now read only once."""
    known = {one.path for one in before}
    files = [file for file in corpus.files if file.name in known or not file.since_0_1]
    files += [file for file in corpus.twins if file.name in known]
    return sorted(files, key=lambda file: file.name)


def _other_content(files: list[SourceFile], before: list[FileStamp], trail: Trail) -> str | None:
    """A message for the first file whose time differs and whose content may have changed; None if there is none."""
    for at, (file, stamp) in enumerate(zip(files, before, strict=True)):
        if _may_differ(file, stamp) and not _has_same_content(file, at, trail):
            return f"{file.name} has other content"
    return None


def _may_differ(file: SourceFile, stamp: FileStamp) -> bool:
    """Whether the content may have changed: by what the store says of it or, where it says nothing, by the time."""
    if file.e_tag and stamp.e_tag:
        return is_other_content(stamp, file)
    return file.mtime_ns != stamp.mtime_ns


def _has_same_content(file: SourceFile, at: int, trail: Trail) -> bool:
    if at < len(trail.finished):
        digest, n_bytes = trail.finished[at], None
    elif at == trail.cursor.file and trail.segments:
        digest, n_bytes = "" if trail.read_beyond else trail.passed.digest, trail.passed.n_bytes
    else:
        return not trail.old and not trail.read_beyond  # nothing of it was read
    if not digest:
        return False
    return digest_of(file, n_bytes) == digest
