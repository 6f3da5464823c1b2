"""Read back an Edge shard: every point with its payload and its vectors, a few at a time in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.point_ids import point_id
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import Form, Output
from ..run_directory.edge_shard import open_shard
from ..run_directory.files import AGAIN

if TYPE_CHECKING:
    import qdrant_edge

POINTS_AT_ONCE = 256
MULTIVECTOR_POINTS_AT_ONCE = 8
"""The engine returns lists of Python floats: the token vectors of one long chunk take tens of megabytes."""


@dataclass(slots=True)
class ShardCount:
    """Counts of a shard's points and vectors."""

    points: int = 0
    strange: int = 0
    """Points whose payload is that of another chunk than their id."""
    vectors: dict[str, int] = field(default_factory=dict[str, int])
    """By name, the number of vectors that are neither empty nor all zeros."""


def count_points(layout: RunLayout, outputs: tuple[Output, ...]) -> ShardCount:
    """Read the whole shard. ShardUnavailable if it is in use or not writable, RunDirectoryError if it is damaged."""
    forms: dict[str, Form] = {one.vector: one.form for one in outputs}
    count = ShardCount(vectors=dict.fromkeys(forms, 0))
    with open_shard(layout) as shard:
        size = MULTIVECTOR_POINTS_AT_ONCE if "multivector" in forms.values() else POINTS_AT_ONCE
        try:
            claimed = int(shard.info().points_count)
            for record in _records(shard, size):
                payload, vectors = record.payload or {}, record.vector
                count.points += 1
                count.strange += point_id(str(payload.get("id"))) != str(record.id)
                for name, vector in vectors.items() if isinstance(vectors, dict) else ():
                    if name in forms and _is_nonzero(forms[name], vector):
                        count.vectors[name] += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the engine raises nothing more exact; its panics are no Exception
            raise RunDirectoryError(f"{layout.edge}: cannot be read back ({error}); {remedy(layout)}") from error
    if claimed != count.points:
        raise RunDirectoryError(
            f"{layout.edge}: says that it holds {claimed} points, and {count.points} can be read; {remedy(layout)}"
        )
    return count


def remedy(layout: RunLayout) -> str:
    """The remedy for a damaged shard. It is derived: if it is deleted, the next run publishes everything again."""
    return f"delete the folder and {layout.published.name} and {AGAIN}"


def _records(shard: qdrant_edge.EdgeShard, size: int) -> Iterator[Any]:
    import qdrant_edge as edge

    offset = None
    while True:
        some, offset = shard.scroll(edge.ScrollRequest(offset=offset, limit=size, with_payload=True, with_vector=True))
        yield from some
        if offset is None:
            return


def _is_nonzero(form: Form, vector: Any) -> bool:
    """Whether a vector is neither empty nor all zeros, as `segment_checks.count_nonzero` counts them in the files."""
    match form:
        case "sparse":
            return len(vector.indices) > 0
        case "multivector":
            return any(map(any, vector))
        case _:
            return any(vector)
