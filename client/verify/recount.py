"""Verify a run from its files alone: no row is lost, mixed up or altered."""

from __future__ import annotations

from os import PathLike

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.own_files import is_partial
from ...protocol.run_directory.records.intake import read_intake
from ...protocol.run_directory.records.manifest import read_manifest
from ...protocol.run_directory.run_json import read_spec
from ..arguments import run_folder
from ..run_directory.files import AGAIN
from ..run_directory.running import Running, interrupted, look
from .chunk_recount import intake_problems, recount_chunks
from .claims import read_claim
from .export_checks import export_problems
from .manifest_checks import manifest_problems, summary_problems
from .report import VectorCount, VerifyReport
from .rerank_checks import needs_queries, needs_scores, rerank_problems
from .shard_recount import recount_shard
from .vector_recount import recount_vector

__all__ = ["VectorCount", "VerifyReport", "verify_run"]


def verify_run(path: str | PathLike[str]) -> VerifyReport:
    """Verify the run in the directory `path`. RunDirectoryError if there is no run; all else is in the report."""
    layout = RunLayout(run_folder(path))
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
    if report.problems and layout.shards_record.exists():
        report.notes.append(
            f"{layout.root} was merged from shards: the command to run again is `embedfleet merge {layout.root}`"
        )
    return report


def _recounted(layout: RunLayout, *, at_work: bool = False) -> VerifyReport:
    """Check one run, without the runs derived from it. `at_work`: do not report what is still missing, nor totals."""
    spec, report = read_spec(layout), VerifyReport(layout.root)
    intake = None if at_work else read_claim(read_intake, layout, report.problems)
    chunks = recount_chunks(layout, intake, at_work=at_work)
    report.segments, report.chunks, report.rejected = len(chunks.rows), chunks.total, chunks.rejected
    report.duplicates = chunks.duplicates
    report.problems += chunks.problems
    if not at_work:
        report.problems += intake_problems(layout, intake, chunks)
        if intake is not None:  # it includes the duplicates after the last chunk, which no footer has
            report.duplicates = max(report.duplicates, intake.duplicates)
    expected = intake.segments if intake is not None and intake.complete else None
    vectors = {one.vector: recount_vector(layout, one, chunks.rows, expected, at_work=at_work) for one in spec.outputs}
    for name, one in vectors.items():
        report.vectors[name] = one.count
        report.problems += one.problems
        report.notes += one.notes
    if at_work:
        return report
    report.problems += summary_problems(layout, report)
    manifest = read_claim(read_manifest, layout, report.problems)
    if manifest is None:
        report.problems.append(f"{layout.manifest}: not there, the run is not done; {AGAIN}")
    else:
        quarantined = set[int]().union(*(one.quarantined for one in vectors.values()))
        report.problems += manifest_problems(layout, spec, manifest, report, quarantined)
    complete = manifest is not None and manifest.done
    shard = recount_shard(layout, spec, chunks.rows, vectors, complete=complete)
    report.points = shard.points
    report.problems += shard.problems
    report.notes += shard.notes
    return report


def _derived(layout: RunLayout) -> VerifyReport:
    """Check a run of queries or pairs. A damaged spec is a problem in the report."""
    try:
        return _recounted(layout)
    except RunDirectoryError as error:
        return VerifyReport(layout.root, problems=[str(error)])
