"""UploadTarget: the collection of an upload, over any QdrantClient: a server, or the engine in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.finished_run.payload import RESERVED
from ...protocol.index.collection import CollectionSchema
from .collection_options import CollectionOptions
from .errors import foreign_errors, server_errors
from .payload_indexes import Indexes
from .requests import RESUME, Requests
from .schema import schema_differences, vectors_beyond

if TYPE_CHECKING:
    from qdrant_client import models

POLL_SECONDS = 1.0
PAGE = 4_096
"""Ids in one page of a scroll request."""
GREEN_IN_A_ROW = 2
"""Green answers that end the wait. Index building starts with a delay: the first green may be before it."""

INDEXING_THRESHOLD = 10_000
"""Kilobytes of vectors in a segment from which it is indexed: Qdrant's default. It replaces the 0 that an interrupted upload
left."""


class UploadTarget:
    """Call in this order: prepare, index payloads, switch indexing off, deliver points, switch indexing on, wait, count."""

    def __init__(self, requests: Requests) -> None:
        self.collection = requests.collection
        self.before = 0
        """Points in the collection before the upload."""
        self.is_indexing = True
        """Whether indexing was on before the upload."""
        self._client, self._ask = requests.client, requests.ask
        self._threshold = INDEXING_THRESHOLD
        self._missing: Indexes = {}

    def prepare(
        self,
        schema: CollectionSchema,
        options: CollectionOptions | None = None,
        indexes: Indexes | None = None,
        *,
        quantize: bool = False,
        create: bool = True,
    ) -> None:
        """Create the collection, or check that an existing one takes these points and is kept as `options` and `indexes` say.

        An existing collection keeps its quantization unless `quantize`. UsageError names the vectors if its schema differs,
        its vectors are of other models, or it has further vectors; and the flags that it does not follow. Without `create`,
        UsageError if it is not there.
        """
        from qdrant_client import models

        options = options or CollectionOptions()
        wanted = models.CreateCollection.model_validate(options.body(schema))
        there = self._exists() or not self._create(wanted, create=create)
        found = self._ask(lambda: self._client.get_collection(self.collection))
        config = found.config
        different = schema_differences(wanted, config)
        if different:
            raise UsageError(
                f"--collection {self.collection}: it differs from this run in {'; '.join(different)}. "
                "Name another collection, or delete this one"
            )
        if surplus := vectors_beyond(wanted, config):
            raise UsageError(
                f"--collection {self.collection}: it has vectors that this run lacks ({', '.join(surplus)}), and writing a "
                "point replaces all of its vectors. Name another collection, or upload a run that has them"
            )
        there_now = {field: one.data_type.value for field, one in found.payload_schema.items()}
        self._missing = {field: kind for field, kind in (indexes or {}).items() if field not in there_now}
        if there and (flags := [*options.differences(config), *_other_types(indexes or {}, there_now)]):
            raise UsageError(
                f"--collection {self.collection}: it is there and does not follow {'; '.join(flags)}. Leave these flags out, "
                "name another collection, or delete this one"
            )
        if there and quantize and type(config.quantization_config) is not type(wanted.quantization_config):
            chosen = wanted.quantization_config or models.Disabled.DISABLED
            self._ask(lambda: self._client.update_collection(self.collection, quantization_config=chosen))
        threshold = config.optimizer_config.indexing_threshold
        self.is_indexing, self._threshold = threshold != 0, threshold or INDEXING_THRESHOLD
        self.before = self.count()

    def index_payloads(self) -> None:
        """Make the payload indexes that are missing: before points are sent, so that the graph is built with them."""
        from qdrant_client import models

        for field, kind in self._missing.items():
            schema = models.PayloadSchemaType(kind)
            make: Any = partial(self._client.create_payload_index, self.collection, field, schema, wait=True)
            self._ask(make)

    def drop_indexes(self, fields: Iterable[str]) -> None:
        """Remove the payload indexes on these fields; wait until it is done."""
        for field in fields:
            remove: Any = partial(self._client.delete_payload_index, self.collection, field, wait=True)
            self._ask(remove)

    def switch_indexing_off(self) -> None:
        """Switch indexing off while points are loaded. Always switch it on again, even if this request fails."""
        self._set_threshold(0)

    def switch_indexing_on(self) -> None:
        """Restore the indexing threshold."""
        self._set_threshold(self._threshold)

    def wait_until_green(self, seconds: float) -> None:
        """Wait until the index is built. EmbedfleetError after `seconds`, or for status red."""
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

    def _exists(self) -> bool:
        return self._ask(lambda: self._client.collection_exists(self.collection))

    def _create(self, wanted: models.CreateCollection, *, create: bool) -> bool:
        """Create the collection; false if another upload did in the meantime. UsageError if it must not be created."""
        if not create:
            raise UsageError(
                f"--collection {self.collection}: is not there; upload the shards to it first, with --shard I/N"
            )
        try:
            self._client.create_collection(
                self.collection,
                vectors_config=wanted.vectors,
                sparse_vectors_config=wanted.sparse_vectors,
                hnsw_config=wanted.hnsw_config,
                shard_number=wanted.shard_number,
                replication_factor=wanted.replication_factor,
                quantization_config=wanted.quantization_config,
                metadata=wanted.metadata,
            )
        except foreign_errors():  # also where the answer to our own request was lost
            if self._exists():
                return False
            with server_errors(self.collection, RESUME):
                raise
        return True

    def _page(self, offset: Any) -> Any:
        return self._client.scroll(
            self.collection, _ours(), limit=PAGE, offset=offset, with_payload=False, with_vectors=False
        )

    def _set_threshold(self, kilobytes: int) -> None:
        from qdrant_client import models

        optimizers = models.OptimizersConfigDiff(indexing_threshold=kilobytes)
        self._ask(lambda: self._client.update_collection(self.collection, optimizers_config=optimizers))


def _other_types(indexes: Indexes, there: Mapping[str, str]) -> Iterator[str]:
    """The flags for indexes that are there with another type."""
    for field, kind in indexes.items():
        if there.get(field, kind) != kind:
            yield f"--payload-index {field}:{kind} (there {there[field]})"


def _ours() -> models.Filter:
    """Points with the reserved key in their payload."""
    from qdrant_client import models

    return models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=RESERVED))])


def _leading(point: str) -> int:
    """The first 64 bits of a UUID. Points that share them are kept or deleted together, which is too rare to matter."""
    return int(point.replace("-", "")[:16], 16)
