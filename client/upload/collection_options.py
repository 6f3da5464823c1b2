"""How a server is asked to keep a collection: its graph, where its vectors lie, its shards and their replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...protocol.index.collection import CollectionSchema

if TYPE_CHECKING:
    from qdrant_client import models


@dataclass(frozen=True, slots=True)
class CollectionOptions:
    """None or false leaves it to the server, or to the collection as it is."""

    hnsw_m: int | None = None
    """Edges for each node of the graph over the dense vectors; 0 makes no graph."""
    on_disk: bool = False
    """Keep dense vectors, multivectors and the sparse index on the disk; the server reads from there."""
    shards: int | None = None
    replicas: int | None = None
    """Copies of each shard."""

    def body(self, schema: CollectionSchema) -> dict[str, Any]:
        """The body of `PUT /collections/{name}` for a collection with this schema."""
        whole: dict[str, Any] = {**schema}
        if self.on_disk:
            whole["vectors"] = {name: {**one, "on_disk": True} for name, one in schema["vectors"].items()}
            sparse = schema["sparse_vectors"].items()
            whole["sparse_vectors"] = {name: {**one, "index": {"on_disk": True}} for name, one in sparse}
        if self.hnsw_m is not None:
            whole["hnsw_config"] = {"m": self.hnsw_m}
        return whole | {"shard_number": self.shards, "replication_factor": self.replicas}

    def differences(self, config: models.CollectionConfig) -> Iterator[str]:
        """The flags that a collection with this configuration does not follow, each with what is there."""
        params = config.params
        numbers = (
            ("--hnsw-m", self.hnsw_m, config.hnsw_config.m),
            ("--shards", self.shards, params.shard_number),
            ("--replicas", self.replicas, params.replication_factor),
        )
        for flag, asked, there in numbers:
            if asked is not None and asked != there:
                yield f"{flag} {asked} (there {there})"
        if self.on_disk and (loaded := [name for name, one in _stored(params) if not _on_disk(one)]):
            yield f"--on-disk (there in memory: {', '.join(loaded)})"


def _stored(params: Any) -> Iterator[tuple[str, Any]]:
    """What says where each vector is kept, by the vector's name."""
    vectors: Any = params.vectors or {}
    yield from (vectors if isinstance(vectors, dict) else {"": vectors}).items()
    yield from ((name, one.index) for name, one in (params.sparse_vectors or {}).items())


def _on_disk(one: Any) -> bool:
    """Newer servers have `memory`, which is `cold` for vectors on the disk."""
    memory = getattr(one, "memory", None)
    return bool(getattr(one, "on_disk", None)) if memory is None else memory.value == "cold"
