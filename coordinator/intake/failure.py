"""Why an intake fails, in one line: a source without a record that can be used, or what nobody foresaw."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ...protocol.errors import SourceError
from ...protocol.process.system_refusals import describe_write_failure
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.intake import IntakeCounts
from ...protocol.source.corpus import STDIN
from ...protocol.source.intake_notes import note_lines
from ...protocol.spec.run_spec import RunSpec
from ..reading.records import Reject

MOST_FIELDS = 20
"""Of a record, in a message."""


def intake_failure(error: Exception, source: str, layout: RunLayout) -> str:
    """The line. What the source's readers meet is a SourceError; what is left is most often met in writing."""
    if isinstance(error, sqlite3.Error):
        return f"{layout.id_index}: cannot be written ({error}); make room there and run the same command again"
    if isinstance(error, OSError) and error.errno is not None and _is_ours(error.filename, layout):
        return f"chunks cannot be written: {describe_write_failure(error, layout.chunks)}"
    return f"the source {source} cannot be read on: {type(error).__name__}: {error}"


def _is_ours(filename: str | None, layout: RunLayout) -> bool:
    """Whether it is a file of the run's; Arrow names none, and readers name theirs."""
    return filename is None or Path(filename).is_relative_to(layout.root)


def check_usable(spec: RunSpec, counts: IntakeCounts, refused: tuple[Reject, tuple[str, ...]] | None) -> None:
    """SourceError for a source in which no record could be used. `refused` is the first record that was not, and its fields."""
    what = "standard input" if spec.source == STDIN else spec.source
    if not counts.rows and not counts.rejected:
        skipped = f"no record in it can be used ({'; '.join(note_lines(counts.notes))})"
        raise SourceError(
            f"{what}: {skipped if counts.notes else 'there is no record in it'}; give a source with at least one"
        )
    # A pair that is refused keeps its fused order, also where it is the only one.
    if not counts.rows and refused is not None and spec.passes[0].kind != "rerank":
        raise SourceError(f"{what}: {_nothing_usable(spec, counts.rejected, *refused)}")


def _nothing_usable(spec: RunSpec, rejected: int, why: Reject, fields: tuple[str, ...]) -> str:
    """Names the first record's fields: usually the flag for one of them is wrong."""
    said = f"not one record in it can be used ({rejected:,} rejected): {why.reason}"
    if not fields:
        return said
    said += f". The fields of that record: {', '.join(fields[:MOST_FIELDS])}" + (", …" * (len(fields) > MOST_FIELDS))
    if any(one.side == "query" for one in spec.passes):
        return f"{said}. A query has `_id` (or `id`) and `text`"
    return f"{said}. Name them with --text-field and --id-field"
