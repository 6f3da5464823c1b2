"""Recounting a run from its files alone: nothing lost, nothing crossed, nothing altered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.published import UNKNOWN, segment_digest
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.own_files import is_partial
from ...protocol.run_directory.run_json import read_json, read_spec
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import add_up
from ...protocol.run_directory.vector_rows import read_shape
from ...protocol.source.check import read_stamps
from ...protocol.spec.run_spec import CPU_KINDS, Output, RunSpec
from ..arguments import given_path
from ..run_directory.edge_shard import ShardUnavailable, engine_installed, published_digests
from ..run_directory.files import AGAIN, count_lines, read_table, rejected_files, spans
from ..run_directory.running import Running, interrupted, look
from .chunk_checks import Ids, count_chunks
from .export_checks import export_problems
from .int8_checks import Int8Notes
from .report import VectorCount, VerifyReport
from .rerank_checks import needs_queries, needs_scores, rerank_problems
from .run_claims import IntakeClaim, ManifestClaim, PassClaim
from .segment_checks import info_problems, row_problems, telling, truncation_of, vector_problems
from .shard_checks import count_points, remedy

__all__ = ["VectorCount", "VerifyReport", "verify_run"]

T = TypeVar("T")


def verify_run(path: str | PathLike[str]) -> VerifyReport:
    """Recount the run in the directory `path`. RunDirectoryError only where there is no run; all else is in the report."""
    layout = RunLayout(given_path(path, "DIR", RunDirectoryError))
    report = _verified(layout, look(layout))
    if not report.ok and report.running is None and (running := look(layout)) is not None:
        return _verified(layout, running)  # the run began meanwhile
    return report


def _verified(layout: RunLayout, running: Running | None) -> VerifyReport:
    report = _recounted(layout, at_work=running is not None)
    report.running = running
    if running is not None:
        report.notes.append(
            f"{layout.root}: the run is in progress, and only what is committed was checked; verify again at its end"
        )
        return report
    report.interrupted = interrupted(layout)
    for derived, needed in (
        (RunLayout(layout.queries), needs_queries(layout)),
        (RunLayout(layout.scores), needs_scores(layout)),
    ):
        if derived.spec.exists() and not needed and not derived.limits.exists():
            continue  # emptied by a --restart; its spec stays, since the folder holds files of the user
        if derived.spec.exists():
            found = _derived(derived)
            report.problems += found.problems
            report.notes += found.notes
        elif needed or derived.chunks.exists() or derived.vectors.exists():
            report.problems.append(f"{derived.root}: has no spec.json; delete the folder and {AGAIN}")
    report.problems += [*export_problems(layout), *rerank_problems(layout)]
    for partial in sorted(layout.root.rglob("*.tmp")):
        if layout.edge not in partial.parents and is_partial(partial):
            report.notes.append(f"{partial}: left by a write that was cut short; harmless, may be deleted")
    return report


def _recounted(layout: RunLayout, *, at_work: bool = False) -> VerifyReport:
    """Check one run, without the runs derived from it. `at_work`: do not report what is still missing, nor totals."""
    spec = read_spec(layout)
    recount = _Recount(layout, spec, at_work=at_work)
    recount.chunks()
    recount.intake()
    for one in spec.outputs:
        recount.vectors(one)
    if at_work:
        return recount.report
    recount.manifest()
    recount.shard()
    return recount.report


def _derived(layout: RunLayout) -> VerifyReport:
    """The run of the queries or of the pairs, whose spec may be damaged."""
    try:
        return _recounted(layout)
    except RunDirectoryError as error:
        return VerifyReport(layout.root, problems=[str(error)])


class _Recount:
    """The steps of one verification; each adds to the report."""

    def __init__(self, layout: RunLayout, spec: RunSpec, *, at_work: bool = False) -> None:
        self.layout, self._spec, self._at_work = layout, spec, at_work
        self.report = VerifyReport(layout.root)
        self._rows: dict[int, int] = {}
        """Rows of each whole chunk segment."""
        self._quarantined: set[int] = set()
        """Rows in quarantine in any pass."""
        self._telling: dict[tuple[str, int], int] = {}
        """By vector and segment, the vectors that are neither null nor empty nor all zeros."""
        self._rejected: dict[Path, int] = {}
        """Records in each file of rejected ones."""
        self._complete = False

    def chunks(self) -> None:
        """Chunk segments: contiguous, rows numbered through, ids once only, every column as it was written."""
        report, hashes = self.report, list[Ids]()
        segments = segments_in(self.layout.chunks)
        missing = sorted(set(range(segments[-1] + 1 if segments else 0)) - set(segments))
        if missing and not self._at_work:
            report.problems.append(f"{self.layout.chunks}: lacks segments {spans(missing)}; {AGAIN} with --restart")
        for segment in segments:
            path = self.layout.chunk_segment(segment)
            try:
                info = read_info(path, ChunkSegmentInfo)
                count = count_chunks(path, info)
            except RunDirectoryError as error:
                report.problems.append(str(error))
                continue
            report.problems += count.problems
            if info.segment != segment:
                self._problem(path, f"its footer says that it is segment {info.segment}; {AGAIN} with --restart")
            if not missing and info.first_row != report.chunks:
                report.problems.append(f"{path}: begins at row {info.first_row}, not {report.chunks}")
            hashes.append(count.hashes)
            self._rows[segment] = count.rows
            report.segments, report.chunks = report.segments + 1, report.chunks + count.rows
            report.duplicates += info.duplicates
            lines = self._lines(self.layout.rejected_segment(segment))
            if lines != info.rejected:
                self._problem(path, f"{info.rejected} records were rejected before it, {lines} are on file")
        report.problems.extend(self._twice(hashes))

    def intake(self) -> None:
        """The counts that the intake ended with. It alone knows of duplicates after the last chunk."""
        report = self.report
        report.rejected = sum(map(self._lines, rejected_files(self.layout)))
        if self._at_work:
            return
        claimed = self._claim(self.layout.intake, IntakeClaim)
        if claimed is None:
            report.problems.append(f"{self.layout.root}: the source was not read to its end; {AGAIN}")
            return
        if read_stamps(self.layout) is None:
            self._problem(
                self.layout.source,
                f"gone or damaged; {AGAIN}: it makes it anew where the source is what was read, or asks for --restart",
            )
        counted = {"segments": report.segments, "rows": report.chunks, "rejected": report.rejected}
        self._compare(self.layout.intake, claimed, counted)
        report.duplicates = max(report.duplicates, claimed.duplicates)

    def vectors(self, one: Output) -> None:
        """The segments of one pass against the chunk segments and its `pass.json`."""
        count = self.report.vectors[one.vector] = VectorCount()
        if one.kind not in CPU_KINDS:  # those take texts of any length
            count.truncated = count.tokens_cut = 0
        folder = self.layout.vector_folder(one.vector)
        have = segments_in(folder)
        missing = sorted(self._rows.keys() - set(have))
        if missing and not self._at_work:
            self._problem(folder, f"lacks segments {spans(missing)} of {len(self._rows)}; {AGAIN}")
        strays = set() if self._at_work else set(have) - set(segments_in(self.layout.chunks))
        for stray in sorted(strays):
            self._problem(self.layout.vector_segment(one.vector, stray), "has no chunk segment; delete it")
        about = self._model_of(one.vector, computed=bool(have))
        int8 = Int8Notes(folder, about.ranges if about is not None else None)
        for segment in sorted(set(have) & self._rows.keys()):
            self._vector_segment(one, segment, about, count, int8)
        self.report.notes += int8.lines()

    def _model_of(self, vector: str, *, computed: bool) -> PassClaim | None:
        """The model of a vector, from its `pass.json`."""
        path, what = self.layout.pass_file(vector), "is not there"
        try:
            about = read_json(path, PassClaim)
        except RunDirectoryError:
            about, what = None, "cannot be read"
        if about is None and (computed or path.exists()):
            self._problem(
                path,
                f"{what}, so the model is unknown; delete the folder {path.parent} and {AGAIN}: "
                "it computes these vectors again",
            )
        return about

    def _vector_segment(
        self, one: Output, segment: int, about: PassClaim | None, count: VectorCount, int8: Int8Notes
    ) -> None:
        path = self.layout.vector_segment(one.vector, segment)
        try:
            info, table = read_info(path, VectorSegmentInfo), read_table(path)
            chunk = read_table(self.layout.chunk_segment(segment), ("row", "id"))
            found = [*row_problems(table, chunk), *info_problems(table, info, one.vector, segment)]
            found.extend(vector_problems(one.form, table, about is None or about.normalized))
            found.extend(self._dim_problems(read_shape(path).dim, about, count))
            if one.storage == "int8":
                int8.add(info, table)
            self._telling[one.vector, segment] = telling(one.form, table)
        except RunDirectoryError as error:
            self.report.problems.append(str(error))
            return
        except (KeyError, TypeError, AttributeError, ValueError, msgspec.MsgspecError, pa.ArrowException) as error:
            self._problem(path, f"not a segment of {one.form} vectors ({error}); delete it and {AGAIN}")
            return
        if about is not None and info.fingerprint != about.fingerprint:
            found.append(f"computed by another model or setting than pass.json says; delete it and {AGAIN}")
        for what in found:
            self._problem(path, what)
        count.segments, count.rows = count.segments + 1, count.rows + table.num_rows
        found_cut = add_up([count.truncation, truncation_of(table)])
        count.tokens = found_cut.tokens
        if count.truncated is not None:
            count.truncated, count.tokens_cut = found_cut.truncated, found_cut.tokens_cut
        bad = table.column("row").filter(table.column("error").is_valid()).to_pylist()
        self._quarantined.update(bad)
        count.quarantined += len(bad)

    def _dim_problems(self, dim: int, about: PassClaim | None, count: VectorCount) -> Iterator[str]:
        expected = count.dim or (about.output_dim if about is not None else None) or dim
        count.dim = count.dim or dim or None
        if dim != expected:
            yield f"its vectors have {dim} dimensions, others of the pass {expected}; delete it and {AGAIN}"

    def manifest(self) -> None:
        """The totals that the manifest claims, where it stands."""
        path, report = self.layout.manifest, self.report
        claimed = self._claim(path, ManifestClaim)
        if claimed is None:
            report.notes.append(f"{path}: not there, the run is not done; {AGAIN}")
            return
        self._complete = claimed.status == "done"
        bad = len(self._quarantined)
        counted = {
            "chunks": report.chunks + report.rejected,
            "committed": report.chunks - bad,
            "quarantined": report.rejected + bad,
            "rejected": report.rejected,
            "skipped_duplicates": report.duplicates,
        }
        self._compare(path, claimed.counts, counted)
        told, expected = [one.vector for one in claimed.passes], [one.vector for one in self._spec.outputs]
        if told != expected:
            self._problem(path, f"tells of the vectors {', '.join(told) or 'none'}, the spec has {', '.join(expected)}")
        for one in claimed.passes:
            count = report.vectors.get(one.vector, VectorCount())
            self._compare(path, one, {"rows": count.rows, "quarantined": count.quarantined}, f"{one.vector}: ")
            if one.truncated is not None:  # 0.1.0 did not record it
                counted = {"truncated": count.truncated, "tokens_cut": count.tokens_cut}
                self._compare(path, one, counted, f"{one.vector}: ")

    def shard(self) -> None:
        """The points of the Edge shard against the published segments, where both can be had."""
        try:
            published = published_digests(self.layout)
            if self._complete and self._rows and self._spec.index == "edge" and not published:
                self._problem(self.layout.edge, f"the collection is missing; {AGAIN}")
            stale = self._stale(published)
            if not published or not engine_installed():
                return
            held = count_points(self.layout, self._spec.outputs)
        except ShardUnavailable as error:
            self.report.notes.append(f"points not counted: {error}")
            return
        except RunDirectoryError as error:
            self.report.problems.append(str(error))
            return
        points = self.report.points = held.points
        expected = sum(self._rows.get(segment, 0) for segment in published)
        if held.strange:
            self._problem(
                self.layout.edge, f"{held.strange} points have another chunk's payload; {remedy(self.layout)}"
            )
        # a run cut short may have published a segment that it has not written down yet
        if points < expected or points > (expected if self._complete else self.report.chunks):
            self._problem(self.layout.edge, f"holds {points} points; the published segments have {expected} rows")
        elif points == expected and not stale:
            self._lost(held.vectors, published)

    def _lost(self, held: Mapping[str, int], published: Iterable[int]) -> None:
        """Vectors that the files have and the shard has not, where both are of the same points."""
        for name, count in held.items():
            expected = sum(self._telling.get((name, segment), 0) for segment in published)
            if count < expected:
                what = f"holds {count} vectors {name}, the published segments {expected}; {remedy(self.layout)}"
                self._problem(self.layout.edge, what)

    def _stale(self, published: Mapping[int, str]) -> bool:
        """Whether there are segments that were computed again since they were published, or may have been."""
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
        return bool(other or unknown)

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

    def _compare(self, path: Path, claimed: msgspec.Struct, counted: Mapping[str, int | None], where: str = "") -> None:
        for name, value in counted.items():
            if getattr(claimed, name) != value:
                self._problem(path, f"{where}{name} {getattr(claimed, name)}, but the files have {value}")

    def _claim(self, path: Path, kind: type[T]) -> T | None:
        """What the file says; None where there is none, or where it is damaged, which is a problem."""
        try:
            return read_json(path, kind)
        except RunDirectoryError as error:
            self.report.problems.append(str(error))
            return None

    def _lines(self, path: Path) -> int:
        """Records in a file of rejected ones; each file is read once."""
        if path not in self._rejected:
            try:
                self._rejected[path] = count_lines(path) if path.exists() else 0
            except RunDirectoryError as error:
                self.report.problems.append(str(error))
                self._rejected[path] = 0
        return self._rejected[path]

    def _problem(self, path: Path, what: str) -> None:
        self.report.problems.append(f"{path}: {what}")
