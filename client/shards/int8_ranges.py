"""Measure int8 ranges on a sample of the source, embedded by the passes that need them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.fit import SAMPLE_CHUNKS, SAMPLE_SUFFIX, FittedRanges, SampledChunk
from ...protocol.spec.int8_ranges import Int8Ranges
from ...protocol.spec.run_spec import NONE, PassSpec, RunSpec
from ..run_directory.reader import open_run

MARGIN = 0.1
"""A range is wider than the sample's by this share at both ends: rare values lie beyond those of a sample. What lies beyond
the range too is cut off; a segment that loses too much by it is stored as float16."""


def measure_ranges(
    folder: Path, spec: RunSpec, sample_run: Callable[[RunSpec, RunLayout], None]
) -> tuple[FittedRanges, ...]:
    """The ranges for each pass that needs them. The samples of the parts are in `folder`."""
    wanted = [one for one in spec.passes if one.needs_int8_ranges]
    source, out = folder / "sample.jsonl", folder / "sample"
    _write_sample(folder, source)
    plain = tuple(msgspec.structs.replace(one, storage="float32") for one in wanted)
    sample = msgspec.structs.replace(
        spec,
        source=str(source),
        passes=plain,
        ensembles=(),
        index="none",
        text_field=None,
        id_field=None,
        title_field=NONE,
    )
    sample_run(sample, RunLayout(out))
    return tuple(FittedRanges(made_by=one, ranges=_ranges_of(out, one)) for one in wanted)


def _write_sample(folder: Path, path: Path) -> None:
    """The chunks of all parts with the smallest hashes, as records of a source."""
    parts = [_read_sample(one) for one in sorted(folder.glob(f"*{SAMPLE_SUFFIX}"))]
    chosen = islice(heapq.merge(*parts, key=lambda one: (one.hash, one.id)), SAMPLE_CHUNKS)
    with path.open("wb") as file:
        for one in chosen:
            file.write(msgspec.json.encode({"id": one.id, "text": one.text}) + b"\n")


def _read_sample(path: Path) -> Iterator[SampledChunk]:
    decoder = msgspec.json.Decoder(SampledChunk)
    with path.open("rb") as file:
        yield from map(decoder.decode, file)


def _ranges_of(out: Path, one: PassSpec) -> Int8Ranges:
    [vector] = [output.vector for output in one.outputs if output.form == "dense"]
    found = open_run(out).vectors(vector)
    assert isinstance(found, np.ndarray), "a dense vector"
    low, high = np.nanmin(found, axis=0), np.nanmax(found, axis=0)
    room = MARGIN * (high - low)
    return Int8Ranges(tuple((low - room).tolist()), tuple((high + room).tolist()))
