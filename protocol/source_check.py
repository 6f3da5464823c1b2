"""Whether a source is still what an intake read: by size and time, and where the times differ by digests of the content.

`chunks/source.json` has the files as they stood when the intake began. The digests are with the segments (`Passed`) and,
for what came after the last one, in `chunks/intake.json`; a directory of 0.1.0 has none, and there the times decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from .durable import commit_bytes
from .errors import RunDirectoryError, SourceError
from .intake_counts import IntakeRecord
from .json_bytes import decode_json
from .layout import RunLayout, segments_in
from .run_json import read_spec
from .segments import ChunkSegmentInfo, Cursor, Passed, read_info
from .source_bytes import digest_of
from .sources import Corpus, SourceFile


class FileStamp(msgspec.Struct, frozen=True):
    """A source file as it stood: path below the source, bytes, and time of change."""

    path: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Trail:
    """What the segments that stand say of the source that they were read from."""

    segments: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    finished: list[str] = field(default_factory=list[str])
    """Digests of the files before the cursor's, and of all that were read where the intake is `whole`."""
    marks: list[tuple[Cursor, Passed]] = field(default_factory=list[tuple[Cursor, Passed]])
    """Of each segment, where it has one."""
    whole: bool = False
    """Whether the intake came to its end and all its segments stand."""
    old: bool = False
    """Whether 0.1.0 read some of it."""
    later: dict[Cursor, Passed] = field(default_factory=dict[Cursor, Passed])
    """Of segments beyond one that is missing: the source is read again from there, and their vectors stay."""
    read_beyond: bool = False
    """Whether vectors stand of rows beyond the last segment here."""

    @property
    def passed(self) -> Passed:
        """What is known of the cursor's file."""
        return self.marks[-1][1] if self.marks and self.marks[-1][0] == self.cursor else Passed()

    def add(self, segment: int, info: ChunkSegmentInfo) -> None:
        """Take one segment more, in the order of their numbers."""
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
    """What has to be unchanged for a resume: path, size and time of each file, in order."""
    return [FileStamp(file.name, file.size, file.mtime_ns) for file in files]


def first_difference(before: list[FileStamp], now: list[FileStamp]) -> str | None:
    """The first file in which two fingerprints differ otherwise than in times, and how; None where there is none."""
    old, new = {one.path: one for one in before}, {one.path: one for one in now}
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            return f"{path} is gone"
        if path not in old:
            return f"{path} is new"
        if old[path].size != new[path].size:
            return f"{path} had {old[path].size} bytes and has {new[path].size}"
    return None if [one.path for one in before] == [one.path for one in now] else "the order of the files"


def read_trail(layout: RunLayout) -> Trail:
    """What the segments say that stand."""
    trail, standing = Trail(), segments_in(layout.chunks)
    for segment in standing:
        try:
            info = read_info(layout.chunk_segment(segment), ChunkSegmentInfo)
        except RunDirectoryError:
            continue
        trail.add(segment, info)
    vectors = [number for folder in layout.vectors.glob("*/") for number in segments_in(folder)]
    trail.read_beyond = any(number >= trail.segments for number in vectors)
    try:
        intake = decode_json(layout.intake.read_bytes(), IntakeRecord)
    except (OSError, ValueError):
        return trail
    trail.whole = intake.complete and intake.segments == trail.segments
    if trail.whole:
        trail.finished += intake.finished
    return trail


def was_read(out: Path, source: str) -> bool:
    """Whether the run directory `out` has the source whole, so that it is needed no more."""
    layout = RunLayout(out)
    try:
        return read_spec(layout).source == source and read_trail(layout).whole
    except RunDirectoryError:
        return False


def unchanged_files(source: str, corpus: Corpus, layout: RunLayout) -> list[SourceFile] | None:
    """The files that the intake of `layout` began with, where all of them are still as they were then; None where nothing
    was made of them yet.

    SourceError where they are not, RunDirectoryError where `chunks/source.json` cannot be understood. Files that have only
    another time of change are compared by content, and noted with the new one.
    """
    path = layout.source
    try:
        before = decode_json(path.read_bytes(), list[FileStamp])
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise RunDirectoryError(f"{path}: damaged ({error}); start over with --restart") from error
    files = corpus.files
    if fingerprint(files) == before:
        return files
    trail = read_trail(layout)
    if not (trail.segments or trail.whole or trail.read_beyond):
        return None  # nothing was made of it
    if trail.old:
        files = _as_0_1_read(corpus, before)
    difference = first_difference(before, fingerprint(files)) or _other_content(files, before, trail)
    if difference is not None:
        raise SourceError(changed(source, difference))
    if fingerprint(files) != before:
        commit_bytes(path, msgspec.json.encode(fingerprint(files)))
    return files


def changed(source: str, difference: str) -> str:
    """What to say of a source that is not what a run began with."""
    return (
        f"{source}: the source changed since its intake began: {difference}; "
        "put it back as it was, or start over with --restart"
    )


def another_stream(how: str) -> str:
    """The same of standard input; `how` says what it does otherwise."""
    return (
        f"standard input is another stream than the one that this run began with: it {how}; "
        "give the same stream again, another --out, or --restart"
    )


def _as_0_1_read(corpus: Corpus, before: list[FileStamp]) -> list[SourceFile]:
    """Without what 0.1.0 passed over, and with the links that are read once by now."""
    known = {one.path for one in before}
    files = [file for file in corpus.files if file.name in known or not file.since_0_1]
    files += [file for file in corpus.twins if file.name in known]
    return sorted(files, key=lambda file: file.name)


def _other_content(files: list[SourceFile], before: list[FileStamp], trail: Trail) -> str | None:
    """The first of the files with another time of which the content is not known to be what was read."""
    for at, (file, stamp) in enumerate(zip(files, before, strict=True)):
        if file.mtime_ns != stamp.mtime_ns and not _says_the_same(file, at, trail):
            return f"{file.name} was written to"
    return None


def _says_the_same(file: SourceFile, at: int, trail: Trail) -> bool:
    if at < len(trail.finished):
        digest, n_bytes = trail.finished[at], None
    elif at == trail.cursor.file and trail.segments:
        digest, n_bytes = "" if trail.read_beyond else trail.passed.digest, trail.passed.n_bytes
    else:
        return not trail.old and not trail.read_beyond  # nothing of it was read
    if not digest:
        return False
    return digest_of(file, n_bytes) == digest
