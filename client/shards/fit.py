"""Fit: read the whole source once, for the figures that its shards must share, so that no vector depends on their number.

BM25 needs the average length of the chunks; dense vectors that are stored as int8 need the range of each dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...protocol.errors import SourceError
from ...protocol.run_directory.atomic_files import make_folder, replace_bytes
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.fit import FitRecord, FittedRanges, TermCount, read_fit
from ...protocol.run_directory.records.intake import FileStamp
from ...protocol.source.check import fingerprint, shards_difference
from ...protocol.source.corpus import survey
from ...protocol.spec.run_spec import PassSpec, RunSpec
from .int8_ranges import measure_ranges
from .parts import read_parts
from .scratch import fitting_folder

SampleRun = Callable[[RunSpec, RunLayout], None]
"""Embeds a sample into a run directory. Raises an EmbedfleetError if that fails."""


def needs_fit(spec: RunSpec) -> bool:
    """Whether a figure of the whole source decides vectors of this spec."""
    return any(one.needs_average_length or one.needs_int8_ranges for one in spec.passes)


def needs_models(spec: RunSpec) -> bool:
    """Whether a fit for this spec embeds a sample."""
    return any(one.needs_int8_ranges for one in spec.passes)


def fitted(spec: RunSpec, record: FitRecord) -> RunSpec:
    """The spec with the figures of the fit."""
    ranges = {one.made_by: one.ranges for one in record.ranges}

    def filled(one: PassSpec) -> PassSpec:
        if one.needs_average_length:
            return msgspec.structs.replace(one, average_length=record.average_length)
        if one.needs_int8_ranges:
            return msgspec.structs.replace(one, int8_ranges=ranges[one])
        return one

    return msgspec.structs.replace(spec, passes=tuple(map(filled, spec.passes)))


def find_fit(layout: RunLayout, spec: RunSpec) -> FitRecord | None:
    """The fit in the directory, if it is of this source and its fields, and has the figures that the spec needs."""
    found = read_fit(layout)
    if found is None or shards_difference(found.files, _stamps(layout, spec)) is not None:
        return None
    fields = (found.text_field, found.id_field, found.title_field, found.preprocessing)
    if fields != (spec.text_field, spec.id_field, spec.title_field, spec.preprocessing):
        return None
    measured = {one.made_by for one in found.ranges}
    if any(one.needs_int8_ranges and one not in measured for one in spec.passes):
        return None
    if any(one.needs_average_length for one in spec.passes) and found.counts.terms is None:
        return None
    return found


def fit(layout: RunLayout, spec: RunSpec, stopping: Callable[[], bool], sample_run: SampleRun) -> FitRecord | None:
    """Read the source by as many processes as there are free cores, and write `fit.json`; None if `stopping()` turned true.

    `sample_run` embeds the sample for int8 ranges. SourceError if the source cannot be read or has no chunk.
    """
    files = _stamps(layout, spec)
    make_folder(layout.root)
    with fitting_folder(layout.root) as folder:
        found = read_parts(folder, spec, stopping)
        if found is None:
            return None
        terms = [one.terms for one in found if one.terms is not None]
        counts = TermCount(
            chunks=sum(one.chunks for one in found),
            terms=sum(terms) if terms else None,
            rejected=sum(one.rejected for one in found),
        )
        if not counts.chunks:
            raise SourceError(
                f"{spec.source}: not one record in it can be used ({counts.rejected:,} rejected); "
                "name its fields with --text-field and --id-field"
            )
        ranges: tuple[FittedRanges, ...] = measure_ranges(folder, spec, sample_run) if needs_models(spec) else ()
    record = FitRecord(
        files=tuple(files),
        text_field=spec.text_field,
        id_field=spec.id_field,
        title_field=spec.title_field,
        preprocessing=spec.preprocessing,
        counts=counts,
        ranges=ranges,
    )
    replace_bytes(layout.fit, msgspec.json.encode(record))
    return record


def _stamps(layout: RunLayout, spec: RunSpec) -> list[FileStamp]:
    return fingerprint(survey(spec.source, layout.root, spec.text_field).files)
