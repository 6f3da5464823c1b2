"""Where everything stands in a run directory. The names are the contract between exporter, loader and readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROW_DIGITS = 5


def segment_file(segment: int) -> str:
    """`00042.parquet`; more digits where there are more segments."""
    return f"{segment:0{ROW_DIGITS}d}.parquet"


def segments_in(folder: Path, suffix: str = ".parquet") -> list[int]:
    """The numbers of the segment files that stand in `folder` under their final names, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name.removesuffix(suffix))
        for path in folder.iterdir()
        if path.name.endswith(suffix) and path.name.removesuffix(suffix).isdigit()
    )


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
    def intake(self) -> Path:
        """Written when the source has been read to its end: the counts of the intake."""
        return self.chunks / "intake.json"

    @property
    def source(self) -> Path:
        """The files of the source with size and time, as they were when the intake began."""
        return self.chunks / "source.json"

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
