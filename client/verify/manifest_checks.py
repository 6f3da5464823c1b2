"""Compare the manifest with the recount, with the spec, and with the record of each vector's pass."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from msgspec import UNSET

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.manifest import Manifest, ManifestPass, digest_spec
from ...protocol.run_directory.records.passes import PassRecord, pass_remedy, read_pass
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.spec.run_spec import RunSpec
from ..output.formatting import pluralize
from ..run_directory.files import AGAIN, count_lines
from .claims import differences
from .report import VectorCount, VerifyReport


def manifest_problems(
    layout: RunLayout, spec: RunSpec, claimed: Manifest, report: VerifyReport, quarantined: Collection[int]
) -> Iterator[str]:
    """Problems where the manifest differs from `report`. `quarantined` are the rows that lack a vector of some pass."""
    path, bad = layout.manifest, len(quarantined)
    counts = {
        "chunks": report.chunks + report.rejected,
        "committed": report.chunks - bad,
        "quarantined": report.rejected + bad,
        "rejected": report.rejected,
        "skipped_duplicates": report.duplicates,
    }
    yield from differences(path, claimed.counts, counts)
    claimed_names, spec_names = (
        [section.vector for section in claimed.passes],
        [section.vector for section in spec.outputs],
    )
    if claimed_names != spec_names:
        yield f"{path}: tells of the vectors {', '.join(claimed_names) or 'none'}, the spec has {', '.join(spec_names)}"
    for section in claimed.passes:
        count = report.vectors.get(section.vector, VectorCount())
        rows = {"rows": count.rows, "quarantined": count.quarantined}
        yield from differences(path, section, rows, f"{section.vector}: ")
        if section.truncated is not UNSET:  # 0.1.0 did not record it
            cut = {"truncated": count.truncated, "tokens_cut": count.tokens_cut}
            yield from differences(path, section, cut, f"{section.vector}: ")
    yield from _spec_problems(layout, spec, claimed)
    for section in claimed.passes:
        yield from _pass_problems(layout, section)


def summary_problems(layout: RunLayout, report: VerifyReport) -> Iterator[str]:
    """Problems of `stats.json` and `quarantine.jsonl`, which may be missing: they are not needed for a resume."""
    try:
        read_stats(layout)
        lines = count_lines(layout.quarantine) if layout.quarantine.exists() else None
    except RunDirectoryError as error:
        yield str(error)
        return
    expected = report.rejected + sum(one.quarantined for one in report.vectors.values())
    if lines is not None and lines != expected:
        yield f"{layout.quarantine}: has {pluralize(lines, 'line')}, and the files have {expected:,} in quarantine; {AGAIN}"


def _spec_problems(layout: RunLayout, spec: RunSpec, claimed: Manifest) -> Iterator[str]:
    if claimed.spec_digest in (UNSET, digest_spec(spec)):
        return
    models = ", ".join(f"{one.vector} by {one.model}" for one in claimed.passes if one.model)
    yield (
        f"{layout.spec}: was changed after the run, which made {models}; put it back as it was, or start over with "
        "--restart"
    )


def _pass_problems(layout: RunLayout, section: ManifestPass) -> Iterator[str]:
    """Fields of the record of a pass that the manifest has with another value."""
    about, path = None, layout.pass_file(section.vector)
    with contextlib.suppress(RunDirectoryError):  # the recount of the vector reports it
        about = read_pass(layout, section.vector)
    for name in PassRecord.__struct_fields__ if about is not None else ():
        ours, theirs = getattr(about, name), getattr(section, name)
        if ours != theirs and not {UNSET, ""} & {ours, theirs}:
            yield (
                f"{path}: {name} {ours!r}, but {layout.manifest.name} has {theirs!r}; put it back as it was, or "
                f"{pass_remedy(layout, section.vector)}"
            )
