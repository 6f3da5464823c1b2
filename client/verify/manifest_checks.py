"""The totals that the manifest claims."""

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
    """Where the manifest differs from the counts in `report`. `quarantined` are the rows without a vector of any pass."""
    path, bad = layout.manifest, len(quarantined)
    counted = {
        "chunks": report.chunks + report.rejected,
        "committed": report.chunks - bad,
        "quarantined": report.rejected + bad,
        "rejected": report.rejected,
        "skipped_duplicates": report.duplicates,
    }
    yield from differences(path, claimed.counts, counted)
    told, expected = [one.vector for one in claimed.passes], [one.vector for one in spec.outputs]
    if told != expected:
        yield f"{path}: tells of the vectors {', '.join(told) or 'none'}, the spec has {', '.join(expected)}"
    for one in claimed.passes:
        count = report.vectors.get(one.vector, VectorCount())
        rows = {"rows": count.rows, "quarantined": count.quarantined}
        yield from differences(path, one, rows, f"{one.vector}: ")
        if one.truncated is not UNSET:  # 0.1.0 did not record it
            cut = {"truncated": count.truncated, "tokens_cut": count.tokens_cut}
            yield from differences(path, one, cut, f"{one.vector}: ")
