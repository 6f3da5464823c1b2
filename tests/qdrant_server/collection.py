"""A collection: its configuration, points and payload indexes, as protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qdrant_client import grpc

from .filters import fields_of, matcher
from .values import plain

DEFAULT_M, DEFAULT_THRESHOLD = 16, 10_000

PointKey = tuple[int, str]
"""Number and UUID of a point's id, of which one is empty; points are in this order."""


class BadRequest(Exception):
    """What Qdrant refuses with INVALID_ARGUMENT."""


class Collection:
    """Made by a request; not locked."""

    def __init__(self, asked: grpc.CreateCollection) -> None:
        self.asked = asked
        self.points: dict[PointKey, grpc.PointStruct] = {}
        self.indexes: dict[str, str] = {}
        """The type of the index on each payload field."""
        self.config = grpc.CollectionConfig(
            params=grpc.CollectionParams(
                shard_number=asked.shard_number or 1,
                replication_factor=asked.replication_factor or 1,
                vectors_config=asked.vectors_config,
                sparse_vectors_config=asked.sparse_vectors_config,
            ),
            hnsw_config=grpc.HnswConfigDiff(m=DEFAULT_M, ef_construct=100, full_scan_threshold=10_000),
            optimizer_config=grpc.OptimizersConfigDiff(
                deleted_threshold=0.2,
                vacuum_min_vector_number=1_000,
                default_segment_number=2,
                flush_interval_sec=5,
                indexing_threshold=DEFAULT_THRESHOLD,
            ),
            wal_config=grpc.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            metadata=asked.metadata,
        )
        self.config.hnsw_config.MergeFrom(asked.hnsw_config)
        if asked.HasField("quantization_config"):
            self.config.quantization_config.CopyFrom(asked.quantization_config)

    @property
    def threshold(self) -> int:
        """Kilobytes from which a segment is indexed; 0 while indexing is off."""
        return self.config.optimizer_config.indexing_threshold

    @property
    def quantization(self) -> str | None:
        """The kind of quantization."""
        return self.config.quantization_config.WhichOneof("quantization")

    def update(self, asked: grpc.UpdateCollection) -> None:
        self.config.optimizer_config.MergeFrom(asked.optimizers_config)
        if asked.quantization_config.WhichOneof("quantization") == "disabled":
            self.config.ClearField("quantization_config")
        elif asked.HasField("quantization_config"):
            self.config.quantization_config.CopyFrom(grpc.QuantizationConfig(scalar=asked.quantization_config.scalar))

    def index(self, asked: grpc.CreateFieldIndexCollection) -> None:
        self.indexes[asked.field_name] = grpc.FieldType.Name(asked.field_type).removeprefix("FieldType")

    def drop_index(self, field: str) -> None:
        self.indexes.pop(field, None)

    def info(self) -> grpc.CollectionInfo:
        schema = {
            field: grpc.PayloadSchemaInfo(data_type=grpc.PayloadSchemaType.Value(kind), points=len(self.points))
            for field, kind in self.indexes.items()
        }
        return grpc.CollectionInfo(
            status=grpc.CollectionStatus.Green,
            optimizer_status=grpc.OptimizerStatus(ok=True),
            segments_count=2,
            points_count=len(self.points),
            config=self.config,
            payload_schema=schema,
        )

    def upsert(self, points: Iterable[grpc.PointStruct]) -> None:
        """Replace whole points, all or none. BadRequest for a vector that does not fit."""
        kept = list(points)
        for point in kept:
            for name, vector in point.vectors.vectors.vectors.items():
                self._check(name, vector)
        self.points.update((point_key(point.id), point) for point in kept)

    def delete(self, ids: Iterable[grpc.PointId]) -> None:
        for one in ids:
            self.points.pop(point_key(one), None)

    def select(self, only: grpc.Filter) -> list[grpc.PointStruct]:
        """The points that match, in the order of their ids."""
        matches = matcher(only)
        return [self.points[key] for key in sorted(self.points) if matches(self.points[key])]

    def counted(self, only: grpc.Filter) -> int:
        """How many points match. BadRequest for a field without an index, as of a server in strict mode."""
        if bare := sorted(fields_of(only) - self.indexes.keys()):
            raise BadRequest(f"Bad request: Index required but not found for {bare}")
        return len(self.select(only))

    def rows(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Payload and vectors of every point in plain Python, by its id."""
        return {
            point.id.uuid: (
                {name: plain(value) for name, value in point.payload.items()},
                {name: numbers(vector) for name, vector in point.vectors.vectors.vectors.items()},
            )
            for point in self.points.values()
        }

    def _check(self, name: str, vector: grpc.Vector) -> None:
        dense = self.config.params.vectors_config.params_map.map
        if name in self.config.params.sparse_vectors_config.map:
            if len(vector.sparse.indices) != len(vector.sparse.values) or len(set(vector.sparse.indices)) != len(
                vector.sparse.indices
            ):
                raise BadRequest(f"Wrong input: sparse vector {name}: indices must be unique, one for each value")
            return
        if name not in dense:
            raise BadRequest(f"Wrong input: Not existing vector name error: {name}")
        rows = vector.multi_dense.vectors if dense[name].HasField("multivector_config") else [vector.dense]
        for row in rows or [grpc.DenseVector()]:
            if len(row.data) != dense[name].size:
                raise BadRequest(
                    f"Wrong input: Vector dimension error: expected dim: {dense[name].size}, got {len(row.data)}"
                )


def point_key(point: grpc.PointId) -> PointKey:
    return point.num, point.uuid


def numbers(vector: grpc.Vector) -> Any:
    """A dense vector as a list, a multivector as lists, a sparse one as (indices, values)."""
    match vector.WhichOneof("vector"):
        case "dense":
            return list(vector.dense.data)
        case "multi_dense":
            return [list(row.data) for row in vector.multi_dense.vectors]
        case "sparse":
            return list(vector.sparse.indices), list(vector.sparse.values)
        case other:
            raise BadRequest(f"Wrong input: a vector of the kind {other}")
