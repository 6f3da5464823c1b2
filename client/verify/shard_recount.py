"""Compare the points of the Edge shard with the published segments, if both can be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.published import UNKNOWN, segment_digest
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import RunSpec
from ..output.formatting import pluralize
from ..run_directory.edge_shard import ShardUnavailable, engine_installed, published_digests
from ..run_directory.files import AGAIN, spans
from .shard_checks import ShardCount, count_points, remedy
from .vector_recount import VectorRecount


@dataclass(slots=True)
class ShardRecount:
    """The result for the shard. `points` is None if they could not be counted."""

    points: int | None = None
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def recount_shard(
    layout: RunLayout, spec: RunSpec, rows: Mapping[int, int], vectors: Mapping[str, VectorRecount], *, complete: bool
) -> ShardRecount:
    """Check the shard against `rows`, by segment, and `vectors`, by name, of the files. `complete`: the run is done."""
    found = ShardRecount()
    try:
        published = published_digests(layout)
        if complete and rows and spec.index == "edge" and not published:
            found.problems.append(f"{layout.edge}: the collection is missing; {AGAIN}")
        other, unknown = _stale_segments(layout, list(vectors), published)
        if other:
            what = f"holds other vectors of segments {spans(other)} than the files"
            found.problems.append(f"{layout.edge}: {what}; {AGAIN}")
        if unknown:
            what = f"does not say which vectors of segments {spans(unknown)} the collection holds"
            found.notes.append(f"{layout.published}: {what}; {AGAIN} to be sure")
        if not published or not engine_installed():
            return found
        held = count_points(layout, spec.outputs)
    except ShardUnavailable as error:
        found.notes.append(f"points not counted: {error}")
        return found
    except RunDirectoryError as error:
        found.problems.append(str(error))
        return found
    found.points = held.points
    expected = sum(rows.get(segment, 0) for segment in published)
    most = expected if complete else sum(rows.values())
    found.problems += _point_problems(layout, held, expected, most)
    if held.points == expected and not other and not unknown:
        found.problems += _lost_vectors(layout, held, vectors, published)
    return found


def _point_problems(layout: RunLayout, held: ShardCount, expected: int, most: int) -> Iterator[str]:
    if held.strange:
        yield f"{layout.edge}: {held.strange} points have another chunk's payload; {remedy(layout)}"
    # An interrupted run may have published a segment before recording it, so that the shard has up to `most` points.
    if held.points < expected or held.points > most:
        points, rows = pluralize(held.points, "point"), pluralize(expected, "row")
        yield f"{layout.edge}: holds {points}; the published segments have {rows}"


def _lost_vectors(
    layout: RunLayout, held: ShardCount, vectors: Mapping[str, VectorRecount], published: Iterable[int]
) -> Iterator[str]:
    """Problems for vectors that the shard lacks, if shard and files have the same points."""
    for name, count in held.vectors.items():
        expected = sum(vectors[name].nonzero.get(segment, 0) for segment in published)
        if count < expected:
            yield (f"{layout.edge}: holds {count} vectors {name}, the published segments {expected}; {remedy(layout)}")


def _stale_segments(layout: RunLayout, vectors: list[str], published: Mapping[int, str]) -> tuple[list[int], list[int]]:
    """Segments that were computed again since they were published, and segments where this is not known."""
    other, unknown = list[int](), list[int]()
    for segment, digest in sorted(published.items()):
        try:
            now = segment_digest(layout, vectors, segment)
        except (RunDirectoryError, ValueError):
            continue  # torn or missing, which other checks report
        if digest == UNKNOWN:
            unknown.append(segment)
        elif digest != now:
            other.append(segment)
    return other, unknown
