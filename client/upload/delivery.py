"""Delivery: send to a collection the points that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...protocol.errors import UsageError
from ...protocol.finished_run.points import Point
from .errors import foreign_errors, server_errors, too_large
from .payloads import same_payload
from .points import to_struct
from .requests import RESUME, Requests, is_away, is_passing
from .sizes import CUT_CHARS

if TYPE_CHECKING:
    from qdrant_client import models

Check = Callable[[Point, Mapping[str, Any]], None]
"""Given a point that is to be sent, and the payload that its id has in the collection: raises if it must not be replaced."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Counts of points: new, replaced under an id that existed, and already present unchanged."""

    new: int = 0
    replaced: int = 0
    present: int = 0
    refused: tuple[str, ...] = ()
    """Ids of chunks that the server refused as too large, each sent by itself."""

    def __add__(self, other: Delivered) -> Delivered:
        numbers = (self.new + other.new, self.replaced + other.replaced, self.present + other.present)
        return Delivered(*numbers, self.refused + other.refused)

    @property
    def points(self) -> int:
        """Points of this run that are in the collection now."""
        return self.new + self.replaced + self.present


class Delivery:
    """Send points in batches, from any number of threads."""

    def __init__(
        self,
        requests: Requests,
        numbered: Container[str] = (),
        *,
        has_points: bool = True,
        check: Check | None = None,
    ) -> None:
        """`numbered` holds the generated chunk ids (FILE#NUMBER): a chunk with such an id does not overwrite another text.
        `has_points` is whether the collection may have points already. `check` is called before a point is replaced."""
        self._requests, self._numbered, self._has_points, self._check = requests, numbered, has_points, check
        self._client, self._collection = requests.client, requests.collection

    def send(self, points: Sequence[Point]) -> Delivered:
        """Send the points that are missing or different in the collection; wait until they are applied.

        A point is unchanged if the collection has the same payload, which contains a digest of the vectors, and all of its
        vectors, since vectors can be deleted separately. No vector is read for this.
        """
        there = self._payloads([point.id for point in points]) if self._has_points else {}
        same = [point for point in points if point.id in there and same_payload(point.payload, there[point.id])]
        whole = self._with_all_vectors(same)
        due = [point for point in points if point.id not in whole]
        self._check_replaced(due, there)
        refused = set(self._write(due)) if due else set[str]()
        written = [point for point in due if point.id not in refused]
        replaced = sum(point.id in there for point in written)
        left = tuple(point.payload["id"] for point in due if point.id in refused)
        return Delivered(len(written) - replaced, replaced, len(whole), left)

    def _check_replaced(self, due: Sequence[Point], there: dict[str, Any]) -> None:
        """UsageError if a generated id is there with another text: every `corpus.jsonl` has a `corpus.jsonl#1`. Also the errors
        of the `check`."""
        for point in due:
            if point.id not in there:
                continue
            payload = there[point.id] or {}
            if self._check is not None:
                self._check(point, payload)
            if point.payload["id"] not in self._numbered:
                continue
            text = str(payload.get("text", ""))
            if text[:CUT_CHARS] != point.payload["text"][:CUT_CHARS]:
                raise UsageError(
                    f"--collection {self._collection}: chunk {point.payload['id']!r} is there with another text. Its id was "
                    "generated from the record's position, so this is another corpus, or the source has changed. Name another "
                    "collection, run with ids (--id-field), or overwrite the chunk with --replace"
                )

    def _write(self, points: Sequence[Point]) -> list[str]:
        """Upsert the points; return the ids of those that the server refuses as too large, found by halving."""
        structs = [to_struct(point) for point in points]
        many = len(points) > 1

        def closed(error: BaseException) -> bool:
            """Whether a server, or a proxy before it, may have closed the connection over a request that is too large."""
            return many and is_away(error) and self._requests.answers()

        def passing(error: BaseException) -> bool:
            # gRPC says RESOURCE_EXHAUSTED for both: busy, and a message above its limit, which waiting does not change
            return is_passing(error) and not (closed(error) or (isinstance(error, Exception) and too_large(error)))

        try:
            self._requests.repeat(lambda: self._client.upsert(self._collection, structs, wait=True), passing)
        except foreign_errors() as error:
            if not (too_large(error) or closed(error)):
                with server_errors(self._collection, RESUME):
                    raise
            if not many:
                return [points[0].id]
            half = len(points) // 2
            return [*self._write(points[:half]), *self._write(points[half:])]
        return []

    @property
    def in_process(self) -> bool:
        """Whether the collection is in this process (`:memory:`, or a path), where uploads in two threads mix up vectors."""
        from qdrant_client.local.qdrant_local import QdrantLocal

        return isinstance(getattr(self._client, "_client", None), QdrantLocal)

    def stop(self) -> None:
        """Stop retrying, in every thread."""
        self._requests.stop()

    def _payloads(self, ids: list[str]) -> dict[str, Any]:
        records = self._requests.ask(
            lambda: self._client.retrieve(self._collection, list(ids), with_payload=True, with_vectors=False)
        )
        return {str(record.id): record.payload for record in records}

    def _with_all_vectors(self, points: Sequence[Point]) -> set[str]:
        """The ids of the points that have all of their vectors in the collection."""
        from qdrant_client import models

        groups: dict[tuple[str, ...], list[models.ExtendedPointId]] = {}
        for point in points:  # nearly all have the same vectors: a row in quarantine lacks some
            groups.setdefault(tuple(point.vectors), []).append(point.id)
        found = set[str]()
        for names, ids in groups.items():
            asked: list[models.Condition] = [models.HasIdCondition(has_id=ids)]
            asked += [models.HasVectorCondition(has_vector=name) for name in names]
            found |= self._matching(models.Filter(must=asked), len(ids))
        return found

    def _matching(self, only: models.Filter, most: int) -> set[str]:
        records, _ = self._requests.ask(
            lambda: self._client.scroll(self._collection, only, limit=most, with_payload=False, with_vectors=False)
        )
        return {str(record.id) for record in records}
