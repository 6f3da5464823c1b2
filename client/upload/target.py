"""The collection that an upload goes to, over any QdrantClient: a server, or the engine in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.finished_run.payload import RESERVED, Payload
from ...protocol.finished_run.points import Point
from ...protocol.index.collection import FINGERPRINTS, CollectionSchema
from ...protocol.spec.fingerprint import same_digest
from .errors import foreign_errors, server_errors, too_large, verdict
from .payloads import same_payload
from .points import to_struct
from .retry import with_retries
from .sizes import CUT_CHARS

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

POLL_SECONDS = 1.0
PAGE = 4_096
"""Ids in one page of a scroll request."""
GREEN_IN_A_ROW = 2
"""Building an index begins a moment after it is switched on: one green may be that moment."""

INDEXING_THRESHOLD = 10_000
"""Kilobytes of vectors in a segment from which it is indexed: Qdrant's own default, set where an upload that was cut short
left it at 0."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of some points: new ones, others under ids that were taken, and those that were there as they are."""

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


class UploadTarget:
    """Prepare, switch indexing off, deliver from any number of threads, switch indexing on, wait, count."""

    def __init__(self, client: QdrantClient, collection: str, numbered: Container[str] = ()) -> None:
        """`numbered` holds the generated chunk ids (FILE#NUMBER): a chunk with such an id does not overwrite another text."""
        self.collection, self._numbered = collection, numbered
        self.before = 0
        """Points that were there when it was prepared."""
        self._client, self._threshold = client, INDEXING_THRESHOLD
        self._stop = threading.Event()

    def prepare(self, body: CollectionSchema, *, quantize: bool = False) -> None:
        """Make the collection, or check that it takes these points.

        A collection that is there keeps its own quantization unless `quantize` says that the body's was asked for.

        UsageError, naming the vectors, where its schema differs, its vectors are of other models, or it has more of them.
        """
        from qdrant_client import models

        wanted = models.CreateCollection.model_validate(body)
        there = self._ask(lambda: self._client.collection_exists(self.collection))
        if not there:
            with server_errors(self.collection):
                self._client.create_collection(
                    self.collection,
                    vectors_config=wanted.vectors,
                    sparse_vectors_config=wanted.sparse_vectors,
                    quantization_config=wanted.quantization_config,
                    metadata=wanted.metadata,
                )
        config = self._ask(lambda: self._client.get_collection(self.collection)).config
        found = schema_differences(wanted, config)
        if found:
            raise UsageError(
                f"--collection {self.collection}: it differs from this run in {'; '.join(found)}. "
                "Name another collection, or delete this one"
            )
        if surplus := _vectors_beyond(wanted, config):
            raise UsageError(
                f"--collection {self.collection}: it has vectors that this run lacks ({', '.join(surplus)}), and writing a "
                "point replaces all of its vectors. Name another collection, or upload a run that has them"
            )
        if there and quantize and config.quantization_config != wanted.quantization_config:
            chosen = wanted.quantization_config or models.Disabled.DISABLED
            self._ask(lambda: self._client.update_collection(self.collection, quantization_config=chosen))
        self._threshold = config.optimizer_config.indexing_threshold or INDEXING_THRESHOLD
        self.before = self.count()

    def deliver(self, points: Sequence[Point]) -> Delivered:
        """Send those of the points that are not there yet, or differ from what is there; wait until they are applied.

        A point is there as it is where its payload is the same, which has a digest of its vectors, and it has them all: a
        vector may have been deleted beside it. No vector is read for that.
        """
        there = self._payloads([one.id for one in points]) if self.before else {}
        same = [one for one in points if one.id in there and same_payload(one.payload, there[one.id])]
        whole = self._with_all_vectors(same)
        due = [one for one in points if one.id not in whole]
        self._check_numbered(due, there)
        refused = set(self._write(due)) if due else set[str]()
        written = [one for one in due if one.id not in refused]
        replaced = sum(one.id in there for one in written)
        left = tuple(one.payload["id"] for one in due if one.id in refused)
        return Delivered(len(written) - replaced, replaced, len(whole), left)

    def _check_numbered(self, due: Sequence[Point], there: Mapping[str, Payload | None]) -> None:
        """Raise UsageError before a chunk of another corpus is overwritten: every `corpus.jsonl` has an id `corpus.jsonl#1`."""
        for one in due:
            if one.id not in there or one.payload["id"] not in self._numbered:
                continue
            text = str((there[one.id] or {}).get("text", ""))
            if text[:CUT_CHARS] != one.payload["text"][:CUT_CHARS]:
                raise UsageError(
                    f"--collection {self.collection}: chunk {one.payload['id']!r} is there with another text. Its id was "
                    "generated from the record's position, so this is another corpus, or the source has changed. Name another "
                    "collection, run with ids (--id-field), or overwrite the chunk with --replace"
                )

    def _write(self, points: Sequence[Point]) -> list[str]:
        """Upsert the points; return the ids of those that the server refuses as too large, found by halving."""
        structs = [to_struct(one) for one in points]
        many = len(points) > 1

        def passing(error: BaseException) -> bool:
            # A server, or a proxy before it, may close the connection over a request that is too large.
            return _passing(error) and not (many and _is_away(error) and self._answers())

        try:
            with_retries(lambda: self._client.upsert(self.collection, structs, wait=True), passing, self._stop)
        except foreign_errors() as error:
            if not (too_large(error) or (many and _is_away(error) and self._answers())):
                with server_errors(self.collection):
                    raise
            if not many:
                return [points[0].id]
            half = len(points) // 2
            return [*self._write(points[:half]), *self._write(points[half:])]
        return []

    def _answers(self) -> bool:
        """Whether the server answers a small request."""
        try:
            self._client.collection_exists(self.collection)
        except foreign_errors():
            return False
        return True

    def stop(self) -> None:
        """No further attempts in any thread."""
        self._stop.set()

    def switch_indexing_off(self) -> None:
        """While points are loaded. Whatever comes after it, this request's own failure included, must end in switching on."""
        self._set_threshold(0)

    def switch_indexing_on(self) -> None:
        """As it was before."""
        self._set_threshold(self._threshold)

    def wait_until_green(self, seconds: float) -> None:
        """Until the index is built; EmbedfleetError where it is not by then."""
        give_up = time.monotonic() + seconds
        green = 0
        while True:
            status = self._ask(lambda: self._client.get_collection(self.collection)).status.value
            green = green + 1 if status == "green" else 0
            if green == GREEN_IN_A_ROW:
                return
            if status == "red" or time.monotonic() > give_up:
                raise EmbedfleetError(
                    f"{self.collection}: all points are there, but the index is not ready (status {status}); "
                    "the same command checks again, --wait SECONDS gives it longer"
                )
            time.sleep(POLL_SECONDS)  # the server offers no way to wait for it

    def count(self) -> int:
        """Points in the collection, exactly."""
        return self._ask(lambda: self._client.count(self.collection, exact=True)).count

    def count_ours(self) -> int:
        """Count the points that embedfleet wrote, of any run."""
        return self._ask(lambda: self._client.count(self.collection, _ours(), exact=True)).count

    def prune(self, run_ids: Iterable[str]) -> int:
        """Delete the points of other runs and of earlier states of this one; return how many. Points of other programs stay."""
        from qdrant_client import models

        kept = np.sort(np.fromiter((_leading(one) for one in run_ids), np.uint64))
        gone, offset = 0, None
        while True:
            page: Any = partial(self._page, offset)
            records, offset = self._ask(page)
            theirs: list[Any] = [one.id for one in records]
            heads = np.array([_leading(str(one)) for one in theirs], np.uint64)
            place = np.minimum(np.searchsorted(kept, heads), max(len(kept) - 1, 0))
            stale = [
                one for one, at, head in zip(theirs, place, heads, strict=True) if not len(kept) or kept[at] != head
            ]
            if stale:
                chosen = models.PointIdsList(points=stale)
                self._ask(lambda chosen=chosen: self._client.delete(self.collection, chosen, wait=True))
                gone += len(stale)
            if offset is None:
                return gone

    def _page(self, offset: Any) -> Any:
        return self._client.scroll(
            self.collection, _ours(), limit=PAGE, offset=offset, with_payload=False, with_vectors=False
        )

    def _payloads(self, ids: list[str]) -> dict[str, Payload | None]:
        records = self._ask(
            lambda: self._client.retrieve(self.collection, list(ids), with_payload=True, with_vectors=False)
        )
        return {str(one.id): cast("Payload | None", one.payload) for one in records}

    def _with_all_vectors(self, points: Sequence[Point]) -> set[str]:
        """The ids of those that have every vector there that they are to have."""
        from qdrant_client import models

        groups: dict[tuple[str, ...], list[models.ExtendedPointId]] = {}
        for one in points:  # nearly all have the same vectors: a row in quarantine lacks some
            groups.setdefault(tuple(one.vectors), []).append(one.id)
        found = set[str]()
        for names, ids in groups.items():
            asked: list[models.Condition] = [models.HasIdCondition(has_id=ids)]
            asked += [models.HasVectorCondition(has_vector=name) for name in names]
            found |= self._matching(models.Filter(must=asked), len(ids))
        return found

    def _matching(self, only: models.Filter, most: int) -> set[str]:
        records, _ = self._ask(
            lambda: self._client.scroll(self.collection, only, limit=most, with_payload=False, with_vectors=False)
        )
        return {str(one.id) for one in records}

    def _set_threshold(self, kilobytes: int) -> None:
        from qdrant_client import models

        optimizers = models.OptimizersConfigDiff(indexing_threshold=kilobytes)
        self._ask(lambda: self._client.update_collection(self.collection, optimizers_config=optimizers))

    def _ask(self, work: Callable[[], T]) -> T:
        """With retries: each of these requests may be repeated without harm."""
        with server_errors(self.collection):
            return with_retries(work, _passing, self._stop)


def schema_differences(wanted: models.CreateCollection, config: models.CollectionConfig) -> list[str]:
    """What keeps a collection from taking the points, a phrase a vector."""
    ours, theirs = _described(wanted), _described(config.params)
    found = [
        f"vector {name} ({one}, there {theirs.get(name, 'missing')})"
        for name, one in ours.items()
        if theirs.get(name) != one
    ]
    passes = (config.metadata or {}).get(FINGERPRINTS, {})
    for name, fingerprint in (wanted.metadata or {}).get(FINGERPRINTS, {}).items():
        if not same_digest(passes.get(name, fingerprint), fingerprint):
            found.append(f"vector {name} (made by another model or with other settings)")
    return found


def _vectors_beyond(wanted: models.CreateCollection, config: models.CollectionConfig) -> list[str]:
    """The vectors of a collection that the points lack: a point that is written over would lose them."""
    return [name or "one without a name" for name in _described(config.params) if name not in _described(wanted)]


def _described(params: Any) -> dict[str, str]:
    """Each vector in words. `params` has `vectors` and `sparse_vectors`."""
    words: dict[str, str] = {}
    vectors: Any = params.vectors or {}
    for name, one in (vectors if isinstance(vectors, dict) else {"": vectors}).items():
        many = "multivectors" if one.multivector_config else "dense"
        # float16 for float32 costs precision only; whole numbers from 0 to 255 are none of these vectors
        whole = ", uint8" if one.datatype is not None and one.datatype.value == "uint8" else ""
        words[name] = f"{many}, size {one.size}, {one.distance.value}{whole}"
    for name, one in (params.sparse_vectors or {}).items():
        words[name] = f"sparse, modifier {one.modifier.value if one.modifier else 'none'}"
    return words


def _ours() -> models.Filter:
    """Points with the reserved key in their payload."""
    from qdrant_client import models

    return models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=RESERVED))])


def _leading(point: str) -> int:
    """The first 64 bits of a UUID. Points that share them are kept or deleted together, which is too rare to matter."""
    return int(point.replace("-", "")[:16], 16)


def _passing(error: BaseException) -> bool:
    return isinstance(error, foreign_errors()) and verdict(error) in ("away", "busy")


def _is_away(error: BaseException) -> bool:
    return isinstance(error, foreign_errors()) and verdict(error) == "away"
