"""A run's results, recounted from its files: `manifest.json`, and `quarantine.jsonl` for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pyarrow.parquet as pq
from msgspec import UNSET, UnsetType

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_file
from ...protocol.run_directory.int8_count import Int8Count
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.intake import read_intake
from ...protocol.run_directory.records.manifest import (
    Counts,
    IndexCounts,
    Manifest,
    ManifestPass,
    commit_manifest,
    digest_spec,
    read_manifest,
    update_manifest,
)
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.records.quarantine import QuarantineLine
from ...protocol.run_directory.records.sections import read_rerank_run
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, TokenVectors, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import Truncation, segment_truncation, sum_truncations
from ...protocol.spec.run_spec import CPU_KINDS, Output, RunSpec
from ...protocol.text.token_estimates import estimated_tokens
from ...protocol.version import __version__
from .sparse_run import sparse_runs

EXCERPT = 200
"""Characters shown of a quarantined text."""


def recount(layout: RunLayout, spec: RunSpec, *, lenient: bool = False) -> tuple[Counts, list[ManifestPass]]:
    """Counts, and one record per output, from the segments' footers. A row is committed if all its vectors are.

    RunDirectoryError if a segment cannot be read; `lenient` leaves it out, for a run that ended before all were checked.
    """
    tallies = {one.vector: _Tally() for one in spec.outputs}
    committed = failed = 0
    standing = (segment for one in spec.outputs for segment in segments_in(layout.vector_folder(one.vector)))
    for segment in sorted(set(standing)):
        bad: set[int] = set()
        """Rows that lack a vector of any pass; of one segment only, since those of a run may not fit in memory."""
        rows, whole = 0, True
        for one in spec.outputs:
            found = _segment(layout, one.vector, segment, lenient)
            if found is None:
                whole = False
                continue
            info, errors, truncation = found
            tallies[one.vector].add(info, truncation)
            rows = info.rows
            bad.update(row for row, *_ in errors)
        if whole:
            committed, failed = committed + rows - len(bad), failed + len(bad)
    chunk_paths = [layout.chunk_segment(segment) for segment in segments_in(layout.chunks)]
    rows = sum(_chunk_rows(path, lenient) for path in chunk_paths)
    intake = read_intake(layout)
    refused = sum(1 for _ in rejected(layout))
    counts = Counts(
        chunks=rows + refused,
        committed=committed,
        quarantined=refused + failed,
        rejected=refused,
        skipped_duplicates=intake.duplicates if intake is not None else 0,
        notes=intake.notes if intake is not None else {},
    )
    return counts, [tallies[one.vector].add_to(_pass_record(layout, one.vector), one) for one in spec.outputs]


class _Tally:
    """The sums over one vector's segments."""

    def __init__(self) -> None:
        self._rows = self._quarantined = self._tokens = self._stood_in = 0
        self._kept: list[TokenVectors] = []
        self._int8 = Int8Count()
        self._truncations: list[Truncation] = []

    def add(self, info: VectorSegmentInfo, truncation: Truncation) -> None:
        self._truncations.append(truncation)
        self._rows += info.rows
        self._quarantined += info.quarantined
        self._tokens += info.tokens
        self._stood_in += info.stood_in
        if info.token_vectors is not None:
            self._kept.append(info.token_vectors)
        self._int8.add(info)

    def add_to(self, record: PassRecord, one: Output) -> ManifestPass:
        """The pass with these counts; the output `one` determines which of them apply."""
        counted = ManifestPass(
            **msgspec.structs.asdict(record),
            rows=self._rows,
            quarantined=self._quarantined,
            tokens=self._tokens,
            stood_in=self._stood_in if one.form == "sparse" else UNSET,
            token_vectors=_token_vectors(self._kept),
        )
        if one.storage == "int8":
            counted = msgspec.structs.replace(counted, **self._int8.record())
        if one.kind not in CPU_KINDS:  # those take texts of any length
            counted = msgspec.structs.replace(counted, **sum_truncations(self._truncations).record())
        return counted


def covered(spec: RunSpec, passes: Sequence[ManifestPass]) -> tuple[dict[str, int], dict[str, int]]:
    """By vector, of what `recount` found: rows that have one, and rows whose weights are the metadata's.

    Where only the metadata was asked for, a row without weights has an empty vector, and that is none.
    """
    kinds = {one.vector: one.kind for one in spec.outputs}
    stood_in = {one.vector: one.stood_in for one in passes if one.stood_in is not UNSET}
    whole = {one.vector: one.rows - one.quarantined for one in passes}
    return whole | {name: rows for name, rows in stood_in.items() if kinds[name] == "metadata"}, stood_in


def truncations(passes: Sequence[ManifestPass]) -> dict[str, Truncation]:
    """The truncation of each vector, from the records of `recount`; without vectors that take texts of any length."""
    return {one.vector: one.truncation for one in passes if one.truncation is not None}


def write_quarantine(layout: RunLayout, spec: RunSpec, *, lenient: bool = False) -> None:
    """Rewrite `quarantine.jsonl`: rejected records with file and record number, then rows with the failed vector.

    `lenient` as for `recount`.
    """

    def write(path: Any) -> None:
        with open(path, "wb") as out:
            for record in rejected(layout):
                out.write(orjson.dumps(record) + b"\n")
            for record in _failed(layout, spec, lenient):
                out.write(orjson.dumps(record) + b"\n")

    commit_file(layout.quarantine, write)


def write_manifest(
    layout: RunLayout, spec: RunSpec, run: str, counts: Counts, passes: Sequence[ManifestPass], points: int
) -> None:
    """Write the manifest, the last file of a done run."""
    manifest = Manifest(
        format=1,
        embedfleet=__version__,
        run=run,
        status="done",
        source=spec.source,
        counts=counts,
        passes=tuple(passes),
        index=IndexCounts(kind=spec.index, points=points),
        spec_digest=digest_spec(spec),
    )
    commit_manifest(layout, _with_sections(layout, spec, manifest))


def write_sections(layout: RunLayout, spec: RunSpec) -> None:
    """Put `sparse_run` and `rerank_run`, as they are now, into the manifest that stands; all else stays as it is."""
    manifest = read_manifest(layout)
    if manifest is not None:
        update_manifest(layout, _with_sections(layout, spec, manifest), ("sparse_run", "rerank_run"))


def rejected(layout: RunLayout) -> Iterator[QuarantineLine]:
    """The rejected records, in the order of the source."""
    for segment in layout.rejected_segments():
        path = layout.rejected_segment(segment)
        with path.open("rb") as lines:
            for line in lines:
                try:
                    record: QuarantineLine = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise RunDirectoryError(
                        f"{path}: damaged ({error}); delete it and run the same command again: it reads these records again"
                    ) from error
                yield record


def _with_sections(layout: RunLayout, spec: RunSpec, manifest: Manifest) -> Manifest:
    """Add `sparse_run` if there are sparse vectors, and `rerank_run` if candidates were reranked."""
    sparse, reranked = sparse_runs(layout, spec, read_stats(layout)), read_rerank_run(layout)
    return msgspec.structs.replace(manifest, sparse_run=sparse or manifest.sparse_run, rerank_run=reranked or UNSET)


def _pass_record(layout: RunLayout, vector: str) -> PassRecord:
    with contextlib.suppress(RunDirectoryError):  # the check of the whole run reports it
        if (record := read_pass(layout, vector)) is not None:
            return record
    return PassRecord(vector=vector, dim=0)  # an empty corpus: no model was ever loaded


def _token_vectors(kept: Sequence[TokenVectors]) -> TokenVectors | UnsetType:
    """Token vectors of a multivector's rows: their sum, fewest and most; UNSET if no segment counts any."""
    counted = [one for one in kept if one.total]
    if not counted:
        return UNSET
    fewest, most = min(one.fewest for one in counted), max(one.most for one in counted)
    return TokenVectors(sum(one.total for one in counted), fewest, most)


def _errors(layout: RunLayout, vector: str, segment: int) -> Iterator[tuple[int, str, int]]:
    """Row, reason and tokens of each quarantined row; 0 tokens if they were not counted."""
    with pq.ParquetFile(layout.vector_segment(vector, segment), page_checksum_verification=True) as file:
        table: Any = file.read(columns=["row", "error", "n_tokens"])
    table = table.filter(table.column("error").is_valid())
    yield from zip(*(table.column(name).to_pylist() for name in ("row", "error", "n_tokens")), strict=True)


def _standing(
    layout: RunLayout, vector: str, lenient: bool
) -> Iterator[tuple[int, VectorSegmentInfo, list[tuple[int, str, int]]]]:
    """Index, info and errors of each segment of a vector; `lenient` leaves out those that cannot be read."""
    for segment in segments_in(layout.vector_folder(vector)):
        if (found := _segment(layout, vector, segment, lenient)) is not None:
            yield segment, found[0], found[1]


def _segment(
    layout: RunLayout, vector: str, segment: int, lenient: bool
) -> tuple[VectorSegmentInfo, list[tuple[int, str, int]], Truncation] | None:
    """Info, errors and truncation of a segment; None if it is missing or, with `lenient`, cannot be read."""
    path = layout.vector_segment(vector, segment)
    if not path.exists():
        return None
    try:
        info = read_info(path, VectorSegmentInfo)
        errors = list(_errors(layout, vector, segment)) if info.quarantined else []
        return info, errors, segment_truncation(path, info)
    except Exception:  # a changed byte of a footer may make the reader raise anything
        if not lenient:
            raise
        return None


def _chunk_rows(path: Path, lenient: bool) -> int:
    try:
        return read_info(path, ChunkSegmentInfo).rows
    except Exception:  # the same
        if not lenient:
            raise
        return 0


def _failed(layout: RunLayout, spec: RunSpec, lenient: bool) -> Iterator[QuarantineLine]:
    for one in spec.outputs:
        for segment, info, errors in _standing(layout, one.vector, lenient):
            if not errors:
                continue
            try:
                with pq.ParquetFile(layout.chunk_segment(segment), page_checksum_verification=True) as file:
                    chunks: Any = file.read(columns=["id", "text"])
            except Exception:  # the same
                if not lenient:
                    raise
                continue
            for row, reason, tokens in errors:
                at = row - info.first_row
                text = chunks.column("text")[at].as_py()
                line = QuarantineLine(
                    row=row, id=chunks.column("id")[at].as_py(), vector=one.vector, reason=reason, n_tokens=tokens
                )
                if not tokens:
                    line["n_tokens"], line["estimated"] = estimated_tokens(len(text.encode()), 1), True
                line["excerpt"] = text[:EXCERPT]
                yield line
