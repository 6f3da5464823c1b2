"""A run that is resumed with other models: what of the earlier ones may go, and how the directory is made ready for it.

A pass that never wrote a segment (its name was mistyped, say), or no weights from a metadata that has none, has nothing to
protect. It goes, others come, and those that are as they were keep their vectors. What differs in anything but the passes
and ensembles is another run.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import sync_folder
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.removal import remove_shard, remove_vectors
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.spec.run_spec import Output, RunSpec, differences


def may_change(layout: RunLayout, before: RunSpec, after: RunSpec) -> bool:
    """Whether `after` takes nothing away of which a segment stands, and differs in its passes and ensembles alone."""
    # With the same models, whatever still differs is the corpus, or how it is read.
    elsewhere = differences(msgspec.structs.replace(after, passes=before.passes, ensembles=before.ensembles), before)
    gone, new = _gone(before, after), _gone(after, before)
    if elsewhere or not (gone or new):
        return False
    return not any(_has_vectors(layout, one) for one in gone)


def change(layout: RunLayout, before: RunSpec, after: RunSpec) -> None:
    """Remove what is left of the vectors that go, and the shard, which has the vectors of the earlier spec."""
    layout.rerank_record.unlink(missing_ok=True)  # the next manifest must not say that these vectors were ranked by
    layout.published.unlink(missing_ok=True)
    sync_folder(layout.root)  # first: a shard that nothing is said to be in is made anew
    remove_shard(layout)
    remove_vectors(layout, [one.vector for one in _gone(before, after)])
    sync_folder(layout.root)


def _has_vectors(layout: RunLayout, one: Output) -> bool:
    """Whether a segment of it stands, and one with weights if it is of the metadata: where no chunk has any, the run failed."""
    paths = (layout.vector_segment(one.vector, segment) for segment in segments_in(layout.vector_folder(one.vector)))
    return any(one.kind != "metadata" or _has_weights(path) for path in paths)


def _has_weights(path: Path) -> bool:
    try:
        return read_info(path, VectorSegmentInfo).stood_in > 0
    except RunDirectoryError:  # torn: nobody knows
        return True


def _gone(before: RunSpec, after: RunSpec) -> list[Output]:
    """The vectors of `before` that `after` has not, or makes in another way."""
    outputs = {one.vector: one for one in before.outputs}
    kept = set(_by_vector(after).items())
    return [outputs[name] for name, how in _by_vector(before).items() if (name, how) not in kept]


def _by_vector(spec: RunSpec) -> dict[str, object]:
    """What decides each vector of the run."""
    made: dict[str, object] = {}
    for one in spec.passes:
        asked = msgspec.structs.replace(one, query_prompt=None, normalize=False)  # no chunk depends on them
        made |= {output.vector: asked for output in one.outputs}
    return made | {one.vector: one for one in spec.ensembles}
