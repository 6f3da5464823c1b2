"""Compare the totals in the manifest with the recount."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import UNSET

from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.manifest import Manifest
from ...protocol.spec.run_spec import RunSpec
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
