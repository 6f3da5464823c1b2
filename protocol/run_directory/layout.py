"""Where everything stands in a run directory. The names are the contract between exporter, loader and readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROW_DIGITS = 5


def segment_file(segment: int) -> str:
    """`00042.parquet`; more digits where there are more segments."""
    return f"{segment:0{ROW_DIGITS}d}.parquet"


def damaged_of(path: Path) -> Path:
    """Where a damaged chunk segment is kept until it has been read from its source again."""
    return path.with_name(f"{path.name}.damaged")


def segments_in(folder: Path, suffix: str = ".parquet") -> list[int]:
    """The numbers of the segment files that stand in `folder` under their final names, sorted."""
    if not folder.is_dir():
        return []
    numbers = (segment_of(path.name, suffix) for path in folder.iterdir())
    return sorted(number for number in numbers if number is not None)


def segment_of(name: str, *suffixes: str) -> int | None:
    """The number of a segment, from the name of its file; None if a run writes no such name (`7.parquet`, say)."""
    stem, _, _ = name.partition(".")
    if not (stem.isascii() and stem.isdigit()) or name[len(stem) :] not in suffixes:
        return None
    return int(stem) if f"{int(stem):0{ROW_DIGITS}d}" == stem else None


def set_aside(folder: Path) -> Path:
    """Where the earlier contents of a derived run directory stand while new ones are made."""
    return folder.with_name(f".{folder.name}.before")


def being_removed(folder: Path) -> Path:
    """What a derived run directory is called while it is removed: half of it would be taken for somebody else's."""
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
    def limits(self) -> Path:
        """How large the segments of this run are: as the first session decided."""
        return self.chunks / "limits.json"

    @property
    def intake(self) -> Path:
        """Written when the source has been read to its end: the counts of the intake."""
        return self.chunks / "intake.json"

    @property
    def source(self) -> Path:
        """The files of the source with size and time, as they were when the intake began."""
        return self.chunks / "source.json"

    @property
    def source_digest(self) -> Path:
        """SHA-256 of the source of a derived run (queries, pairs), by which it is recognised in another place."""
        return self.chunks / "source.sha256"

    @property
    def id_index(self) -> Path:
        """Scratch of the intake: the ids seen so far. Derived from the segments, deleted at the end."""
        return self.chunks / ".ids.sqlite"

    @property
    def vectors(self) -> Path:
        return self.root / "vectors"

    @property
    def edge(self) -> Path:
        return self.root / "qdrant"

    @property
    def published(self) -> Path:
        """The segments that the Edge shard holds."""
        return self.root / "published.json"

    @property
    def export(self) -> Path:
        """The files that were asked for."""
        return self.root / "export"

    @property
    def export_record(self) -> Path:
        """What `export` holds: files, rows, bytes, digests."""
        return self.export / "export.json"

    @property
    def collection(self) -> Path:
        """The collection that the points are for, as the last export described it."""
        return self.export / "collection.json"

    @property
    def queries(self) -> Path:
        """The run directory of the queries, encoded by the passes of this run."""
        return self.root / "queries"

    @property
    def rerank(self) -> Path:
        return self.root / "rerank"

    @property
    def candidates(self) -> Path:
        """For each query, the chunks that any signal or the fusion found."""
        return self.rerank / "candidates.parquet"

    @property
    def pairs(self) -> Path:
        """The fused candidates as a corpus of (query, text) pairs."""
        return self.rerank / "pairs.jsonl"

    @property
    def candidates_record(self) -> Path:
        """What the candidates were made of. Written last: without it there are none."""
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
        """The section `rerank_run` of the manifest, for the next time that the manifest is written."""
        return self.rerank / "rerank_run.json"

    @property
    def reranked(self) -> Path:
        """The first chunks for each query, with every score."""
        return self.export / "rerank.jsonl"

    @property
    def report(self) -> Path:
        return self.export / "report.html"

    @property
    def evaluation(self) -> Path:
        return self.export / "evaluation.json"

    @property
    def report_record(self) -> Path:
        """Bytes and digests of the two files of the evaluation. Written last: without it nothing is known of them."""
        return self.rerank / "report.json"

    def chunk_segment(self, segment: int) -> Path:
        return self.chunks / segment_file(segment)

    def rejected_segment(self, segment: int) -> Path:
        """The bad rows met while this segment was read; written before the segment."""
        return self.chunks / f"{segment:0{ROW_DIGITS}d}.rejected.jsonl"

    def vector_folder(self, vector: str) -> Path:
        return self.vectors / vector

    def pass_file(self, vector: str) -> Path:
        return self.vector_folder(vector) / "pass.json"

    def vector_segment(self, vector: str, segment: int) -> Path:
        return self.vector_folder(vector) / segment_file(segment)
