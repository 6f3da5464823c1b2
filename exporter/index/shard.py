"""Open and create the embedded shard of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protocol.errors import RunDirectoryError
from ...protocol.index.collection import sparse_modifier
from ...protocol.index.shard import ShardRefused, load_shard
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import Output, RunSpec

if TYPE_CHECKING:
    import qdrant_edge

LOCK_SECONDS = 30.0
"""How long a search in another process may hold the shard before publishing fails."""


class DamagedShard(RunDirectoryError):
    """The engine cannot read the shard's files."""


def open_shard(layout: RunLayout) -> qdrant_edge.EdgeShard:
    """Open the shard, waiting for a search that has it open.

    DamagedShard if its files are damaged; RunDirectoryError if another process keeps it or the host denies access.
    """
    try:
        return load_shard(layout.edge, LOCK_SECONDS)
    except ShardRefused as refused:
        match refused.reason:
            case "locked":
                raise RunDirectoryError(
                    f"{layout.edge}: in use by another process, a long search or verify; run the same command again when "
                    "it has ended"
                ) from None
            case "read-only" | "host":
                raise RunDirectoryError(
                    f"{layout.edge}: the engine cannot open it here ({refused}); run the same command again when it can"
                ) from refused
            case "damaged":
                raise DamagedShard(
                    f"{layout.edge}: the shard is damaged ({refused}); run the same command again, which makes it anew"
                ) from refused


def create_shard(layout: RunLayout, spec: RunSpec, dims: dict[str, int]) -> qdrant_edge.EdgeShard:
    """Create the empty shard with all vectors of the run; `dims` are their dimensions by name."""
    import qdrant_edge as edge

    layout.edge.mkdir(exist_ok=True)
    dense = {one.vector: _dense(one, dims[one.vector]) for one in spec.outputs if one.form in ("dense", "multivector")}
    sparse = {
        one.vector: edge.EdgeSparseVectorParams(
            modifier=edge.Modifier.Idf if sparse_modifier(one.kind) == "idf" else None
        )
        for one in spec.outputs
        if one.form == "sparse"
    }
    config = edge.EdgeConfig(vectors=dense or None, sparse_vectors=sparse or None)
    return edge.EdgeShard.create(str(layout.edge), config)


def _dense(one: Output, size: int) -> Any:
    import qdrant_edge as edge

    cosine, float16 = edge.Distance.Cosine, edge.VectorStorageDatatype.Float16
    if one.form == "multivector":
        # Compared by MaxSim over the tokens; no graph can be built over them.
        return edge.EdgeVectorParams(
            size=size,
            distance=cosine,
            multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
            datatype=float16,
            hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        )
    # Other storage types are read as float32: the engine would round them again.
    return edge.EdgeVectorParams(size=size, distance=cosine, datatype=float16 if one.storage == "float16" else None)


def damaged_shard(layout: RunLayout) -> str:
    """The remedy, for a message: the shard is derived, and without it all segments are published again."""
    return f"delete {layout.edge} and {layout.published.name} and run the same command again"
