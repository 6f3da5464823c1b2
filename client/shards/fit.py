"""Fit: read the whole source once, for the figures that its shards must share. Only BM25 needs one, the average length."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import IO

import msgspec

from ...protocol.errors import RunFailed, SourceError, describe_exit
from ...protocol.host.free_cores import find_free_cores
from ...protocol.process.child import STEADY_MEMORY, ChildProcess, exit_error
from ...protocol.run_directory.atomic_files import commit_bytes, make_folder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.fit import FitRecord, TermCount, read_fit
from ...protocol.run_directory.records.intake import FileStamp
from ...protocol.source.check import fingerprint, first_difference
from ...protocol.source.corpus import survey
from ...protocol.spec.run_spec import RunSpec

POLL_SECONDS = 0.05
MODULE = "embedfleet.coordinator.fitting.count_terms"


def needs_fit(spec: RunSpec) -> bool:
    """Whether a figure of the whole source decides vectors of this spec."""
    return any(one.needs_average_length for one in spec.passes)


def fitted(spec: RunSpec, record: FitRecord) -> RunSpec:
    """The spec with the figures of the fit."""
    passes = tuple(
        msgspec.structs.replace(one, average_length=record.average_length) if one.needs_average_length else one
        for one in spec.passes
    )
    return msgspec.structs.replace(spec, passes=passes)


def find_fit(layout: RunLayout, spec: RunSpec) -> FitRecord | None:
    """The fit that stands in the directory, if it is of this source, read by the same fields; else None."""
    found = read_fit(layout)
    if found is None or first_difference(list(found.files), _stamps(layout, spec)) is not None:
        return None
    fields = (found.text_field, found.id_field, found.title_field, found.preprocessing)
    return found if fields == (spec.text_field, spec.id_field, spec.title_field, spec.preprocessing) else None


def fit(layout: RunLayout, spec: RunSpec, stopping: Callable[[], bool]) -> FitRecord | None:
    """Read the source by as many processes as there are free cores, and write `fit.json`; None if `stopping()` turned true.

    SourceError if the source cannot be read or has no chunk.
    """
    files = _stamps(layout, spec)
    make_folder(layout.root)
    shutil.rmtree(layout.fitting, ignore_errors=True)
    layout.fitting.mkdir()
    try:
        parts = find_free_cores().threads
        found = _count(layout, spec, parts, stopping)
    finally:
        shutil.rmtree(layout.fitting, ignore_errors=True)
    if found is None:
        return None
    counts = TermCount(
        chunks=sum(one.chunks for one in found),
        terms=sum(one.terms for one in found),
        rejected=sum(one.rejected for one in found),
    )
    if not counts.chunks:
        raise SourceError(
            f"{spec.source}: not one record in it can be used ({counts.rejected:,} rejected); "
            "name its fields with --text-field and --id-field"
        )
    record = FitRecord(
        files=tuple(files),
        text_field=spec.text_field,
        id_field=spec.id_field,
        title_field=spec.title_field,
        preprocessing=spec.preprocessing,
        counts=counts,
    )
    commit_bytes(layout.fit, msgspec.json.encode(record))
    return record


def _count(layout: RunLayout, spec: RunSpec, parts: int, stopping: Callable[[], bool]) -> Sequence[TermCount] | None:
    """The counts of each part, by one process for each; None if they were stopped."""
    children, outputs = list[ChildProcess](), list[IO[bytes]]()
    text = msgspec.json.encode(spec).decode()
    try:
        for number in range(parts):
            outputs.append(tempfile.TemporaryFile())  # noqa: SIM115 - closed below
            folder = layout.fitting / f"{number:05d}"
            arguments = [text, f"{number}/{parts}", str(folder)]
            children.append(ChildProcess(MODULE, arguments, environment=STEADY_MEMORY, stdout=outputs[-1]))
        for child in children:
            while (code := child.wait(POLL_SECONDS)) is None:
                if stopping():
                    return None
            if code < 0:
                raise RunFailed(f"the count of the terms was {describe_exit(code)}; the same command begins it again")
            if code:
                raise exit_error(code, child.tail(), f"the count of the terms ended with exit code {code}")
        return [_read(output) for output in outputs]
    finally:
        for child in children:
            child.close()
        for output in outputs:
            output.close()


def _read(output: IO[bytes]) -> TermCount:
    output.seek(0)
    return msgspec.json.decode(output.read(), type=TermCount)


def _stamps(layout: RunLayout, spec: RunSpec) -> list[FileStamp]:
    return fingerprint(survey(spec.source, layout.root, spec.text_field).files)
