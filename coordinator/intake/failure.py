"""Messages of a failed intake: a source without a usable record, or an unexpected error."""

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
"""Fields of a record that a message names, at most."""


def intake_failure(error: Exception, source: str, layout: RunLayout) -> str:
    """The message, in one line. Readers raise SourceError for a bad source; most other errors come from writing."""
    if isinstance(error, sqlite3.Error):
        return f"{layout.id_index}: cannot be written ({error}); make room there and run the same command again"
    if isinstance(error, OSError) and error.errno is not None and _is_ours(error.filename, layout):
        return f"chunks cannot be written: {describe_write_failure(error, layout.chunks)}"
    return f"the source {source} cannot be read on: {type(error).__name__}: {error}"


def _is_ours(filename: str | None, layout: RunLayout) -> bool:
    """Whether the file belongs to the run. Arrow's errors name no file; readers name the source's."""
    return filename is None or Path(filename).is_relative_to(layout.root)


def check_usable(spec: RunSpec, counts: IntakeCounts, refused: tuple[Reject, tuple[str, ...]] | None) -> None:
    """Raise SourceError if no record of the source is usable. `refused` is the first rejected record, with its fields.

    A shard may be empty: it is the merge that looks at all of them.
    """
    if spec.shard is not None:
        return
    what = "standard input" if spec.source == STDIN else spec.source
    if not counts.rows and not counts.rejected:
        skipped = f"no record in it can be used ({'; '.join(note_lines(counts.notes))})"
        raise SourceError(
            f"{what}: {skipped if counts.notes else 'there is no record in it'}; give a source with at least one"
        )
    # A refused pair keeps its fused order, even if it is the only one.
    if not counts.rows and refused is not None and spec.passes[0].kind != "rerank":
        raise SourceError(f"{what}: {_nothing_usable(spec, counts.rejected, *refused)}")


def _nothing_usable(spec: RunSpec, rejected: int, why: Reject, fields: tuple[str, ...]) -> str:
    """Error text when no record was usable. Names the first record's fields: usually a flag for one of them is wrong."""
    message = f"not one record in it can be used ({rejected:,} rejected): {why.reason}"
    if not fields:
        return message
    message += f". The fields of that record: {', '.join(fields[:MOST_FIELDS])}" + (", …" * (len(fields) > MOST_FIELDS))
    if any(one.side == "query" for one in spec.passes):
        return f"{message}. A query has `_id` (or `id`) and `text`"
    return f"{message}. Name them with --text-field and --id-field"
