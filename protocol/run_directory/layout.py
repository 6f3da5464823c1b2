"""The paths in a run directory: the contract between exporter, loader and readers.

`chunks/` and `vectors/NAME/` hold nothing but segments, so that other programs can read the folders. Earlier versions kept
the files of the intake in `chunks/`, and `pass.json` in `vectors/NAME/`. A file that is there is read, and written again, at
that place; a file that does not exist yet is written at the new one. So an earlier directory is used as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROW_DIGITS = 5
REJECTED = ".rejected.jsonl"
"""Ends the name of a segment's file of rejected records."""

FITTING = ".fitting"
"""Begins the names of folders for temporary files of the processes that read a source for `fit.json`."""


def segment_file(segment: int) -> str:
    """The file name of a segment: `00042.parquet`, with more digits from 100000 on."""
    return f"{segment:0{ROW_DIGITS}d}.parquet"


def damaged_of(path: Path) -> Path:
    """The name that a damaged or foreign file gets when it is set aside."""
    return path.with_name(f"{path.name}.damaged")


def segments_in(folder: Path, suffix: str = ".parquet") -> list[int]:
    """The sorted numbers of the committed segment files in `folder`."""
    return segment_numbers((path.name for path in folder.iterdir()), suffix) if folder.is_dir() else []


def segment_numbers(names: Iterable[str], suffix: str = ".parquet") -> list[int]:
    """The sorted numbers of the segment files among file names."""
    numbers = (segment_of(name, suffix) for name in names)
    return sorted(number for number in numbers if number is not None)


def segment_of(name: str, *suffixes: str) -> int | None:
    """The number of a segment from its file name; None for a name that a run does not write, such as `7.parquet`."""
    stem, _, _ = name.partition(".")
    if not (stem.isascii() and stem.isdigit()) or name[len(stem) :] not in suffixes:
        return None
    return int(stem) if f"{int(stem):0{ROW_DIGITS}d}" == stem else None


def set_aside(folder: Path) -> Path:
    """The path of a derived run directory's previous contents while new ones are made."""
    return folder.with_name(f".{folder.name}.before")


def being_removed(folder: Path) -> Path:
    """The path of a derived run directory while it is removed: half a directory would look like someone else's files."""
    return folder.with_name(f".{folder.name}.gone")


@dataclass(frozen=True, slots=True)
class RunLayout:
    """The paths of one run directory."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def stats(self) -> Path:
        return self.root / "stats.json"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def chunks(self) -> Path:
        return self.root / "chunks"

    @property
    def intake_folder(self) -> Path:
        """The files of the intake other than its segments."""
        return self.root / "intake"

    @property
    def limits(self) -> Path:
        """Limits of the segments of this run, set by its first session."""
        return self._of_intake("limits.json")

    @property
    def intake(self) -> Path:
        """The counts of the intake, written when the source has been read to its end."""
        return _standing(self.chunks / "intake.json", self.intake_folder / "counts.json")

    @property
    def source(self) -> Path:
        """The files of the source with size and time, as they were when the intake began."""
        return self._of_intake("source.json")

    @property
    def source_digest(self) -> Path:
        """SHA-256 of the source of a derived run (queries, pairs), to recognise it in another place."""
        return self._of_intake("source.sha256")

    @property
    def id_index(self) -> Path:
        """Temporary index of the ids seen by the intake. Derived from the segments, deleted at the end."""
        return self._of_intake(".ids.sqlite")

    @property
    def vectors(self) -> Path:
        return self.root / "vectors"

    @property
    def passes(self) -> Path:
        """The records of the passes: for each vector, the model and the settings that it was computed with."""
        return self.root / "passes"

    @property
    def cache(self) -> Path:
        """Copies of vectors that `Run.memmap` makes."""
        return self.root / "cache"

    @property
    def edge(self) -> Path:
        return self.root / "qdrant"

    @property
    def published(self) -> Path:
        """The segments in the Edge shard."""
        return self.root / "published.json"

    @property
    def export(self) -> Path:
        """The exported files."""
        return self.root / "export"

    @property
    def export_record(self) -> Path:
        """The record of the exported files: rows, bytes, digests."""
        return self.export / "export.json"

    @property
    def collection(self) -> Path:
        """The schema of the collection, written by the last export."""
        return self.export / "collection.json"

    @property
    def table(self) -> Path:
        """The folder with the parts of an exported table."""
        return self.export / "table"

    @property
    def shards_record(self) -> Path:
        """What the shards of this directory are parts of: their count, the spec, the files of the source."""
        return self.root / "shards.json"

    @property
    def fit(self) -> Path:
        """Figures of the whole source that its shards share."""
        return self.root / "fit.json"

    @property
    def shards(self) -> Path:
        """The run directories of the shards."""
        return self.root / "shards"

    @property
    def merge_record(self) -> Path:
        """What the merged files were made of. Written before the first of them."""
        return self.root / "merge.json"

    def shard(self, index: int) -> RunLayout:
        """The run directory of one shard."""
        return RunLayout(self.shards / f"{index:0{ROW_DIGITS}d}")

    @property
    def queries(self) -> Path:
        """The run directory of the queries, encoded by the passes of this run."""
        return self.root / "queries"

    @property
    def rerank(self) -> Path:
        return self.root / "rerank"

    @property
    def candidates(self) -> Path:
        """The chunks that any signal or the fusion found for each query."""
        return self.rerank / "candidates.parquet"

    @property
    def pairs(self) -> Path:
        """The fused candidates as a corpus of (query, text) pairs."""
        return self.rerank / "pairs.jsonl"

    @property
    def candidates_record(self) -> Path:
        """The record of the candidates. Written last: without it there are no candidates."""
        return self.rerank / "candidates.json"

    @property
    def scores(self) -> Path:
        """The run directory of the pairs, scored by a reranker."""
        return self.rerank / "run"

    @property
    def ranking(self) -> Path:
        """The candidates with their scores by the reranker and their final ranks."""
        return self.rerank / "ranking.parquet"

    @property
    def rerank_record(self) -> Path:
        """The section `rerank_run`, for the next time that the manifest is written."""
        return self.rerank / "rerank_run.json"

    @property
    def reranked(self) -> Path:
        """The best chunks for each query, with every score."""
        return self.export / "rerank.jsonl"

    @property
    def report(self) -> Path:
        return self.export / "report.html"

    @property
    def evaluation(self) -> Path:
        return self.export / "evaluation.json"

    @property
    def report_record(self) -> Path:
        """Bytes and digests of the two files of the evaluation. Written last."""
        return self.rerank / "report.json"

    def chunk_segment(self, segment: int) -> Path:
        return self.chunks / segment_file(segment)

    def damaged_chunk_segment(self, segment: int) -> Path:
        """The path at which a damaged chunk segment is kept until it has been read from the source again."""
        return damaged_of(self.intake_folder / segment_file(segment))

    def rejected_segment(self, segment: int) -> Path:
        """The records rejected while this segment was read. Written before the segment."""
        return self._of_intake(f"{segment:0{ROW_DIGITS}d}{REJECTED}")

    def rejected_segments(self) -> list[int]:
        """The sorted numbers of the segments with a file of rejected records."""
        return sorted({*segments_in(self.chunks, REJECTED), *segments_in(self.intake_folder, REJECTED)})

    def vector_folder(self, vector: str) -> Path:
        return self.vectors / vector

    def pass_file(self, vector: str) -> Path:
        return _standing(self.vector_folder(vector) / "pass.json", self.passes / f"{vector}.json")

    def vector_segment(self, vector: str, segment: int) -> Path:
        return self.vector_folder(vector) / segment_file(segment)

    def damaged_vector_segment(self, vector: str, segment: int) -> Path:
        """The path at which a file in the place of a vector segment is kept that is not the committed one."""
        return damaged_of(self.passes / f"{vector}.{segment_file(segment)}")

    def memory_map(self, vector: str, digest: str, dtype: str) -> Path:
        """The copy of a vector that `Run.memmap` makes; `digest` is that of its segments."""
        return self.cache / f"{vector}.{digest}.{dtype}.npy"

    def _of_intake(self, name: str) -> Path:
        return _standing(self.chunks / name, self.intake_folder / name)


def _standing(earlier: Path, now: Path) -> Path:
    """The place of a file: `earlier`, that of earlier versions, if it is there; else `now`."""
    return earlier if os.path.lexists(earlier) else now
