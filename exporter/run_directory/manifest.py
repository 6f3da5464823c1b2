"""What a run ended with, recounted from the files: `manifest.json`, and `quarantine.jsonl` for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pyarrow.parquet as pq

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_bytes, commit_file
from ...protocol.run_directory.int8_count import Int8Count
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.run_json import read_object
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, TokenVectors, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import Truncation, add_up, of_segment
from ...protocol.spec.run_spec import CPU_KINDS, Output, RunSpec
from ...protocol.text.token_estimates import estimated_tokens
from ...protocol.version import __version__
from .rerank_run import kept_rerank
from .sparse_run import sparse_runs

EXCERPT = 200
"""Characters of a quarantined text that are shown."""


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`chunks` counts the records read and not skipped as duplicates.

    `chunks` = `committed` + `quarantined` when the run is done; until then the rest is still to be computed.
    """

    chunks: int
    committed: int
    quarantined: int
    rejected: int
    """Of the quarantined: records that never became a row."""
    skipped_duplicates: int
    notes: dict[str, int] = {}
    """Records by what the intake did to them (`protocol/source/intake_notes.py`)."""


def recount(layout: RunLayout, spec: RunSpec, *, lenient: bool = False) -> tuple[Counts, list[dict[str, Any]]]:
    """Counts and one record a pass, from the segments' footers. A row counts as committed when all its vectors are.

    RunDirectoryError where a segment cannot be read; `lenient` leaves it out, for a run that ended before all were looked at.
    """
    tallies = {one.vector: _Tally() for one in spec.outputs}
    committed = failed = 0
    standing = (segment for one in spec.outputs for segment in segments_in(layout.vector_folder(one.vector)))
    for segment in sorted(set(standing)):
        bad: set[int] = set()
        """Rows that lack a vector of any pass: of one segment, since those of a run may be more than memory holds."""
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
    spooled = [layout.chunk_segment(segment) for segment in segments_in(layout.chunks)]
    rows = sum(_chunk_rows(path, lenient) for path in spooled)
    intake = _object(layout.intake)
    refused = sum(1 for _ in rejected(layout))
    counts = Counts(
        chunks=rows + refused,
        committed=committed,
        quarantined=refused + failed,
        rejected=refused,
        skipped_duplicates=int(intake.get("duplicates", 0)),
        notes=intake.get("notes", {}),
    )
    return counts, [_pass_record(layout, one.vector) | tallies[one.vector].record(one) for one in spec.outputs]


class _Tally:
    """The segments of one vector, added up."""

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

    def record(self, one: Output) -> dict[str, Any]:
        counted: dict[str, Any] = {"rows": self._rows, "quarantined": self._quarantined, "tokens": self._tokens}
        if one.form == "sparse":
            counted["stood_in"] = self._stood_in
        if one.storage == "int8":
            counted |= self._int8.record()
        if one.kind not in CPU_KINDS:  # those take texts of any length
            counted |= add_up(self._truncations).record()
        return counted | _token_vectors(self._kept)


def covered(spec: RunSpec, passes: list[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """By vector, of what `recount` found: rows that have one, and rows whose weights are the metadata's.

    Where only the metadata was asked for, a row without weights has an empty vector, and that is none.
    """
    kinds = {one.vector: one.kind for one in spec.outputs}
    stood_in: dict[str, int] = {one["vector"]: one["stood_in"] for one in passes if "stood_in" in one}
    whole = {one["vector"]: one["rows"] - one["quarantined"] for one in passes}
    return whole | {name: rows for name, rows in stood_in.items() if kinds[name] == "metadata"}, stood_in


def truncations(passes: list[dict[str, Any]]) -> dict[str, Truncation]:
    """The truncation of each vector, from the records of `recount`, but for vectors that take texts of any length."""
    return {
        one["vector"]: Truncation(one["rows"], one["truncated"], one["tokens"], one["tokens_cut"])
        for one in passes
        if "truncated" in one
    }


def write_quarantine(layout: RunLayout, spec: RunSpec, *, lenient: bool = False) -> None:
    """`quarantine.jsonl`: rejected records with file and record, then rows with what failed. Derived, so rewritten.

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
    layout: RunLayout, spec: RunSpec, run: str, counts: Counts, passes: list[dict[str, Any]], points: int
) -> None:
    """The last file of a run that is done."""
    manifest = {
        "format": 1,
        "embedfleet": __version__,
        "run": run,
        "status": "done",
        "source": spec.source,
        "counts": msgspec.to_builtins(counts),
        "passes": passes,
        "index": {"kind": spec.index, "points": points},
    }
    _commit(layout, manifest | _sections(layout, spec))


def write_sections(layout: RunLayout, spec: RunSpec) -> None:
    """Put `sparse_run` and `rerank_run`, as they are now, into the manifest that stands."""
    manifest = _object(layout.manifest)
    manifest.pop("rerank_run", None)
    _commit(layout, manifest | _sections(layout, spec))


def rejected(layout: RunLayout) -> Iterator[dict[str, Any]]:
    """The records that never became a row, in the order of the source."""
    for path in sorted(layout.chunks.glob("[0-9]*.rejected.jsonl"), key=lambda one: (len(one.name), one.name)):
        with path.open("rb") as lines:
            for line in lines:
                try:
                    record: dict[str, Any] = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise RunDirectoryError(
                        f"{path}: damaged ({error}); delete it and run the same command again: it reads these records again"
                    ) from error
                yield record


def _sections(layout: RunLayout, spec: RunSpec) -> dict[str, Any]:
    """`sparse_run` where there are sparse vectors, `rerank_run` where candidates were reranked."""
    found: dict[str, Any] = {}
    if sparse := sparse_runs(layout, spec, _object(layout.stats)):
        found["sparse_run"] = msgspec.to_builtins(sparse)
    if (reranked := kept_rerank(layout)) is not None:
        found["rerank_run"] = reranked
    return found


def _commit(layout: RunLayout, manifest: dict[str, Any]) -> None:
    commit_bytes(layout.manifest, orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")


def _pass_record(layout: RunLayout, vector: str) -> dict[str, Any]:
    with contextlib.suppress(RunDirectoryError):  # the check of the whole run reports it
        if (record := read_object(layout.pass_file(vector))) is not None:
            return record
    return {"vector": vector, "kind": "", "dim": 0}  # an empty corpus: no model was ever loaded


def _token_vectors(kept: list[TokenVectors]) -> dict[str, Any]:
    """Of a multivector: what its rows have together, and the extremes; nothing where no segment tells of a row."""
    counted = [one for one in kept if one.total]
    if not counted:
        return {}
    fewest, most = min(one.fewest for one in counted), max(one.most for one in counted)
    return {"token_vectors": {"total": sum(one.total for one in counted), "fewest": fewest, "most": most}}


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) or {}


def _errors(layout: RunLayout, vector: str, segment: int) -> Iterator[tuple[int, str, int]]:
    """Row, reason and tokens of each row in quarantine; 0 tokens where no tokenizer has told."""
    with pq.ParquetFile(layout.vector_segment(vector, segment), page_checksum_verification=True) as file:
        table: Any = file.read(columns=["row", "error", "n_tokens"])
    table = table.filter(table.column("error").is_valid())
    yield from zip(*(table.column(name).to_pylist() for name in ("row", "error", "n_tokens")), strict=True)


def _standing(
    layout: RunLayout, vector: str, lenient: bool
) -> Iterator[tuple[int, VectorSegmentInfo, list[tuple[int, str, int]]]]:
    """Number, info and errors of each segment of a vector; `lenient` leaves out those that cannot be read."""
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
        return info, errors, of_segment(path, info)
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


def _failed(layout: RunLayout, spec: RunSpec, lenient: bool) -> Iterator[dict[str, Any]]:
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
                record = {"row": row, "id": chunks.column("id")[at].as_py(), "vector": one.vector, "reason": reason}
                guess = {"n_tokens": estimated_tokens(len(text.encode()), 1), "estimated": True}
                counted = {"n_tokens": tokens} if tokens else guess
                yield record | counted | {"excerpt": text[:EXCERPT]}
