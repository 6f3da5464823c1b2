"""Resume a run with other models: which earlier vectors may go, and how to prepare the directory.

A pass without a segment (a mistyped name, say), or one that found no weights in the metadata, has nothing to protect: it is
replaced. Unchanged passes keep their vectors. A run without a collection may get one, which is made of its vectors. A spec that
differs in anything else is another run.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_bytes, sync_folder
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.layout import RunLayout, damaged_of, segments_in
from ...protocol.run_directory.removal import remove_shard, remove_vectors
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.spec.differences import differences
from ...protocol.spec.run_spec import Output, RunSpec


def may_change(layout: RunLayout, before: RunSpec, after: RunSpec) -> bool:
    """Whether `after` drops no vector that has a segment and no collection, and differs from `before` only in passes and
    ensembles, or in the collection that it adds."""
    index = before.index if after.index == "edge" else after.index
    made = {"passes": before.passes, "ensembles": before.ensembles, "index": index}
    # With the same models, any difference left is in the corpus, or in how it is read.
    elsewhere = differences(msgspec.structs.replace(after, **made), before)
    gone, new = _gone(before, after), _gone(after, before)
    if elsewhere or not (gone or new or after.index != before.index):
        return False
    return not any(_has_vectors(layout, one) for one in gone)


def change(layout: RunLayout, before: RunSpec, after: RunSpec) -> None:
    """Remove the files of the dropped vectors, and the shard, which has the vectors of the earlier spec."""
    layout.rerank_record.unlink(missing_ok=True)  # the next manifest must not name the dropped vectors in a ranking
    layout.published.unlink(missing_ok=True)
    sync_folder(layout.root)  # first: a shard without a record of its segments is made anew
    remove_shard(layout)
    remove_vectors(layout, [one.vector for one in _gone(before, after)])
    sync_folder(layout.root)


def _has_vectors(layout: RunLayout, one: Output) -> bool:
    """Whether the vector has a segment; for metadata weights, a segment with weights: without any, the run failed."""
    paths = (layout.vector_segment(one.vector, segment) for segment in segments_in(layout.vector_folder(one.vector)))
    return any(one.kind != "metadata" or _has_weights(path) for path in paths)


def _has_weights(path: Path) -> bool:
    try:
        return read_info(path, VectorSegmentInfo).stood_in > 0
    except RunDirectoryError:  # torn: unknown
        return True


def _gone(before: RunSpec, after: RunSpec) -> list[Output]:
    """The vectors of `before` that `after` lacks, or computes in another way."""
    outputs = {one.vector: one for one in before.outputs}
    kept = set(_by_vector(after).items())
    return [outputs[name] for name, how in _by_vector(before).items() if (name, how) not in kept]


def _by_vector(spec: RunSpec) -> dict[str, object]:
    """The settings that determine each vector of the run, by its name."""
    made: dict[str, object] = {}
    for one in spec.passes:
        asked = msgspec.structs.replace(one, query_prompt=None, normalize=False)  # no chunk depends on them
        made |= {output.vector: asked for output in one.outputs}
    return made | {one.vector: one for one in spec.ensembles}


def restore_spec(layout: RunLayout, spec: RunSpec) -> None:
    """Write spec.json again if it was removed or replaced while the run worked: without it, nothing can read the directory.

    What is in its place is set aside.
    """
    data = pretty_json(spec)
    if not layout.spec.exists():
        commit_bytes(layout.spec, data)
    elif layout.spec.read_bytes() != data:
        layout.spec.rename(damaged_of(layout.spec))
        commit_bytes(layout.spec, data)
