"""Check the segments of one vector against the chunk segments and the record of its pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
from msgspec import UNSET

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.passes import PassRecord, pass_remedy, read_pass
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import sum_truncations
from ...protocol.run_directory.vector_rows import read_shape
from ...protocol.spec.run_spec import CPU_KINDS, Output
from ..run_directory.files import AGAIN, read_table, spans
from .int8_checks import Int8Notes
from .report import VectorCount
from .segment_checks import count_nonzero, info_problems, row_problems, truncation_of, vector_problems


@dataclass(slots=True)
class VectorRecount:
    """The result for all segments of one vector."""

    count: VectorCount = field(default_factory=VectorCount)
    quarantined: set[int] = field(default_factory=set[int])
    """Rows in quarantine."""
    nonzero: dict[int, int] = field(default_factory=dict[int, int])
    """By segment, the number of vectors that are neither null nor empty nor all zeros."""
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def recount_vector(
    layout: RunLayout, output: Output, rows: Mapping[int, int], expected: int | None, *, at_work: bool
) -> VectorRecount:
    """Read every segment that has a chunk segment in `rows`. `expected` is the number of segments of the source, None before
    it was read to its end. `at_work`: segments may still be missing."""
    recount, folder = VectorRecount(), layout.vector_folder(output.vector)
    if output.kind not in CPU_KINDS:  # CPU kinds take texts of any length
        recount.count.truncated = recount.count.tokens_cut = 0
    have = segments_in(folder)
    missing = sorted(rows.keys() - set(have))
    if missing and not at_work:
        recount.problems.append(f"{folder}: lacks segments {spans(missing)} of {len(rows)}; {AGAIN}")
    strays = set() if at_work or expected is None else {one for one in have if one >= expected}
    for stray in sorted(strays - set(segments_in(layout.chunks))):
        recount.problems.append(
            f"{layout.vector_segment(output.vector, stray)}: has no chunk segment, since the source has only {expected:,}; "
            f"move it away and {AGAIN}"
        )
    about = _read_model(layout, output.vector, computed=bool(have), problems=recount.problems)
    int8 = Int8Notes(folder, (about.ranges or None) if about is not None else None)
    for segment in sorted(set(have) & rows.keys()):
        path = layout.vector_segment(output.vector, segment)
        try:
            problems = [f"{path}: {what}" for what in _add_segment(layout, output, segment, about, recount, int8)]
        except RunDirectoryError as error:
            problems = [str(error)]
        except (KeyError, TypeError, AttributeError, ValueError, msgspec.MsgspecError, pa.ArrowException) as error:
            problems = [f"{path}: not a segment of {output.form} vectors ({error}); delete it and {AGAIN}"]
        recount.problems += problems
    recount.notes += int8.lines()
    return recount


def _read_model(layout: RunLayout, vector: str, *, computed: bool, problems: list[str]) -> PassRecord | None:
    """The record of a vector's pass; None if it is missing or incomplete, which is a problem if vectors were computed."""
    path, what = layout.pass_file(vector), "is not there"
    try:
        about = read_pass(layout, vector)
    except RunDirectoryError:
        about, what = None, "cannot be read"
    if about is not None and about.fingerprint is UNSET:
        about, what = None, "cannot be read"
    if about is None and (computed or path.exists()):
        problems.append(f"{path}: {what}, so the model is unknown; {pass_remedy(layout, vector)}")
    return about


def _add_segment(
    layout: RunLayout, output: Output, segment: int, about: PassRecord | None, recount: VectorRecount, int8: Int8Notes
) -> list[str]:
    """Count a segment and return its problems. Columns of other types may raise any error of NumPy and Arrow."""
    path = layout.vector_segment(output.vector, segment)
    info, table = read_info(path, VectorSegmentInfo), read_table(path)
    chunk = read_table(layout.chunk_segment(segment), ("row", "id"))
    problems = [*row_problems(table, chunk), *info_problems(table, info, output.vector, segment)]
    problems.extend(vector_problems(output.form, table, about is None or about.normalized is not False))
    problems.extend(_dim_problems(read_shape(path).dim, about, recount.count))
    if output.storage == "int8":
        int8.add(info, table)
    recount.nonzero[segment] = count_nonzero(output.form, table)
    if about is not None and info.fingerprint != about.fingerprint:
        record = layout.pass_file(output.vector).relative_to(layout.root)
        problems.append(f"computed by another model or setting than {record} says; delete it and {AGAIN}")
    count = recount.count
    count.segments, count.rows = count.segments + 1, count.rows + table.num_rows
    cut = sum_truncations([count.truncation, truncation_of(table)])
    count.tokens = cut.tokens
    if count.truncated is not None:
        count.truncated, count.tokens_cut = cut.truncated, cut.tokens_cut
    bad = table.column("row").filter(table.column("error").is_valid()).to_pylist()
    recount.quarantined.update(bad)
    count.quarantined += len(bad)
    return problems


def _dim_problems(dim: int, about: PassRecord | None, count: VectorCount) -> Iterator[str]:
    expected = count.dim or (about.output_dim if about is not None else None) or dim
    count.dim = count.dim or dim or None
    if dim != expected:
        yield f"its vectors have {dim} dimensions, others of the pass {expected}; delete it and {AGAIN}"
