"""Recounting a run from its files alone: nothing lost, nothing crossed, nothing altered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..protocol.errors import RunDirectoryError
from ..protocol.layout import RunLayout, segments_in
from ..protocol.published import UNKNOWN, segment_digest
from ..protocol.segments import ChunkSegmentInfo, VectorSegmentInfo
from ..protocol.spec import Output
from ..protocol.storage import Ranges, ranges_of
from ..protocol.vector_rows import read_shape
from .edge_shard import engine_installed, open_shard, published_digests
from .export_checks import export_problems, ranking_problems
from .run_files import AGAIN, read_footer, read_lines, read_object, read_spec, read_table, rejected_files, spans
from .segment_checks import info_problems, row_problems, vector_problems
from .verify_report import VectorCount, VerifyReport

__all__ = ["VectorCount", "VerifyReport", "verify_run"]

Ids = npt.NDArray[np.int64]


def verify_run(path: str | PathLike[str]) -> VerifyReport:
    """Recount the run in the directory `path`. RunDirectoryError only where there is no run; all else is in the report."""
    layout = RunLayout(Path(path))
    spec = read_spec(layout)
    recount = _Recount(layout, spec.index)
    recount.chunks()
    recount.intake()
    for one in spec.outputs:
        recount.vectors(one)
    recount.manifest()
    recount.shard()
    recount.report.problems += [*export_problems(layout), *ranking_problems(layout)]
    for partial in sorted(layout.root.rglob("*.tmp")):
        if layout.edge not in partial.parents:
            recount.report.notes.append(f"{partial}: left by a write that was cut short; harmless, may be deleted")
    return recount.report


class _Recount:
    """The steps of one verification; each adds to the report."""

    def __init__(self, layout: RunLayout, index: str) -> None:
        self.layout, self._index = layout, index
        self.report = VerifyReport(layout.root)
        self._rows: dict[int, int] = {}
        """Rows of each whole chunk segment."""
        self._quarantined: set[int] = set()
        """Rows in quarantine in any pass."""
        self._complete = False

    def chunks(self) -> None:
        """Chunk segments: contiguous, rows numbered through, ids once only."""
        report, hashes = self.report, list[Ids]()
        segments = segments_in(self.layout.chunks)
        missing = sorted(set(range(segments[-1] + 1 if segments else 0)) - set(segments))
        if missing:
            report.problems.append(f"{self.layout.chunks}: lacks segments {spans(missing)}; {AGAIN} with --restart")
        for segment in segments:
            path = self.layout.chunk_segment(segment)
            try:
                info, table = read_footer(path, ChunkSegmentInfo), read_table(path, ("row", "id"))
            except RunDirectoryError as error:
                report.problems.append(str(error))
                continue
            numbers = np.arange(info.first_row, info.first_row + info.rows)
            if not np.array_equal(table.column("row").to_numpy(), numbers) or info.segment != segment:
                report.problems.append(f"{path}: its rows are not those that its footer says; {AGAIN} with --restart")
            if not missing and info.first_row != report.chunks:
                report.problems.append(f"{path}: begins at row {info.first_row}, not {report.chunks}")
            hashes.append(np.fromiter(map(hash, table.column("id").to_pylist()), np.int64, table.num_rows))
            self._rows[segment] = table.num_rows
            report.segments, report.chunks = report.segments + 1, report.chunks + table.num_rows
            report.duplicates += info.duplicates
            lines = self._lines(self.layout.rejected_segment(segment))
            if lines != info.rejected:
                self._problem(path, f"{info.rejected} records were rejected before it, {lines} are on file")
        report.problems.extend(self._twice(hashes))

    def intake(self) -> None:
        """The counts that the intake ended with. It alone knows of duplicates after the last chunk."""
        report = self.report
        report.rejected = sum(map(self._lines, rejected_files(self.layout)))
        claimed = self._object(self.layout.intake)
        if claimed is None:
            report.problems.append(f"{self.layout.root}: the source was not read to its end; {AGAIN}")
            return
        counted = {"segments": report.segments, "rows": report.chunks, "rejected": report.rejected}
        self._compare(self.layout.intake, claimed, counted)
        report.duplicates = max(report.duplicates, claimed.get("duplicates", 0))

    def vectors(self, one: Output) -> None:
        """The segments of one pass against the chunk segments and its `pass.json`."""
        count = self.report.vectors[one.vector] = VectorCount()
        folder = self.layout.vector_folder(one.vector)
        have = segments_in(folder)
        missing = sorted(self._rows.keys() - set(have))
        if missing:
            self._problem(folder, f"lacks segments {spans(missing)} of {len(self._rows)}; {AGAIN}")
        for stray in sorted(set(have) - set(segments_in(self.layout.chunks))):
            self._problem(self.layout.vector_segment(one.vector, stray), "has no chunk segment; delete it")
        about = self._object(self.layout.pass_file(one.vector)) or {}
        if have and not about:
            self._problem(
                folder, f"has no readable pass.json, so nobody knows which model this is; {AGAIN} with --restart"
            )
        for segment in sorted(set(have) & self._rows.keys()):
            self._vector_segment(one, segment, about, count)

    def _vector_segment(self, one: Output, segment: int, about: dict[str, Any], count: VectorCount) -> None:
        path = self.layout.vector_segment(one.vector, segment)
        try:
            info, table = read_footer(path, VectorSegmentInfo), read_table(path)
            chunk = read_table(self.layout.chunk_segment(segment), ("row", "id"))
            found = [*row_problems(table, chunk), *info_problems(table, info, one.vector, segment)]
            found.extend(vector_problems(one.form, table, bool(about.get("normalized", True))))
            found.extend(self._dim_problems(read_shape(path).dim, about, count))
            if one.storage == "int8" and ranges_of(table.schema.field("vector")) != msgspec.convert(
                about["ranges"], Ranges
            ):
                found.append(f"its int8 spans other ranges than pass.json says; delete it and {AGAIN}")
        except RunDirectoryError as error:
            self.report.problems.append(str(error))
            return
        except (KeyError, TypeError, AttributeError, ValueError, msgspec.MsgspecError, pa.ArrowException) as error:
            self._problem(path, f"not a segment of {one.form} vectors ({error}); delete it and {AGAIN}")
            return
        if about and info.fingerprint != about.get("fingerprint"):
            found.append(f"computed by another model or setting than pass.json says; delete it and {AGAIN}")
        for what in found:
            self._problem(path, what)
        count.segments, count.rows = count.segments + 1, count.rows + table.num_rows
        bad = table.column("row").filter(table.column("error").is_valid()).to_pylist()
        self._quarantined.update(bad)
        count.quarantined += len(bad)

    def _dim_problems(self, dim: int, about: dict[str, Any], count: VectorCount) -> Iterator[str]:
        expected = count.dim or about.get("output_dim") or dim
        count.dim = count.dim or dim or None
        if dim != expected:
            yield f"its vectors have {dim} dimensions, others of the pass {expected}; delete it and {AGAIN}"

    def manifest(self) -> None:
        """The totals that the manifest claims, where it stands."""
        path, report = self.layout.manifest, self.report
        claimed = self._object(path)
        if claimed is None:
            report.notes.append(f"{path}: not there, the run is not done; {AGAIN}")
            return
        self._complete = claimed.get("status") == "done"
        bad = len(self._quarantined)
        counted = {
            "chunks": report.chunks + report.rejected,
            "committed": report.chunks - bad,
            "quarantined": report.rejected + bad,
            "rejected": report.rejected,
            "skipped_duplicates": report.duplicates,
        }
        self._compare(path, claimed.get("counts", {}), counted)
        for one in claimed.get("passes", []):
            count = report.vectors.get(one.get("vector"), VectorCount())
            self._compare(path, one, {"rows": count.rows, "quarantined": count.quarantined}, f"{one.get('vector')}: ")

    def shard(self) -> None:
        """The number of points in the Edge shard against the published segments, where both can be had."""
        try:
            published = published_digests(self.layout)
            if self._complete and self._rows and self._index == "edge" and not published:
                self._problem(self.layout.edge, f"the collection is missing; {AGAIN}")
            self._stale(published)
            if not published or not engine_installed():
                return
            with open_shard(self.layout) as shard:
                points = self.report.points = shard.info().points_count
        except RunDirectoryError as error:
            self.report.notes.append(f"points not counted: {error}")
            return
        expected = sum(self._rows.get(segment, 0) for segment in published)
        # a run cut short may have published a segment that it has not written down yet
        if points < expected or points > (expected if self._complete else self.report.chunks):
            self._problem(self.layout.edge, f"holds {points} points; the published segments have {expected} rows")

    def _stale(self, published: Mapping[int, str]) -> None:
        """Segments that were computed again since they were published, or of which nobody knows whether they were."""
        other, unknown = list[int](), list[int]()
        for segment, digest in sorted(published.items()):
            try:
                now = segment_digest(self.layout, list(self.report.vectors), segment)
            except (RunDirectoryError, ValueError):
                continue  # torn or missing, which is told above
            if digest == UNKNOWN:
                unknown.append(segment)
            elif digest != now:
                other.append(segment)
        if other:
            self._problem(self.layout.edge, f"holds other vectors of segments {spans(other)} than the files; {AGAIN}")
        if unknown:
            what = f"does not say which vectors of segments {spans(unknown)} the collection holds; {AGAIN} to be sure"
            self.report.notes.append(f"{self.layout.published}: {what}")

    def _twice(self, hashes: list[Ids]) -> Iterator[str]:
        """Ids that stand in two rows. Hashes find the candidates, since all ids at once may not fit in memory."""
        values, times = np.unique(np.concatenate(hashes) if hashes else np.empty(0, np.int64), return_counts=True)
        candidates, seen = set(values[times > 1].tolist()), set[str]()
        for segment in self._rows if candidates else ():
            path = self.layout.chunk_segment(segment)
            for name in read_table(path, ("id",)).column("id").to_pylist():
                if hash(name) in candidates:
                    if name in seen:
                        yield f"{path}: the id {name!r} stands in two rows; {AGAIN} with --restart"
                    seen.add(name)

    def _compare(self, path: Path, claimed: dict[str, Any], counted: dict[str, int], where: str = "") -> None:
        for name, value in counted.items():
            if claimed.get(name) != value:
                self._problem(path, f"{where}{name} {claimed.get(name)}, but the files have {value}")

    def _object(self, path: Path) -> dict[str, Any] | None:
        """The JSON object in `path`; None where there is none, which is a problem if it is damaged."""
        try:
            return read_object(path)
        except RunDirectoryError as error:
            self.report.problems.append(str(error))
            return None

    def _lines(self, path: Path) -> int:
        try:
            return len(read_lines(path)) if path.exists() else 0
        except RunDirectoryError as error:
            if str(error) not in self.report.problems:
                self.report.problems.append(str(error))
            return 0

    def _problem(self, path: Path, what: str) -> None:
        self.report.problems.append(f"{path}: {what}")
