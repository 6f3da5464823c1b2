"""The schema of a run's collection, as the body of Qdrant's `PUT /collections/{name}`. Needs no engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from ..errors import RunDirectoryError
from ..finished_run.done_run import DoneRun
from ..run_directory.json_bytes import decode_json

Quantization = Literal["none", "scalar"] | None
"""None: keep the quantization of the last export."""

DISTANCE = "Cosine"

FINGERPRINTS = "embedfleet"
"""Key in the collection's metadata: the fingerprint of each vector's pass."""


class DenseParams(TypedDict):
    """A dense vector, or with `multivector_config` a multivector."""

    size: int
    distance: str
    datatype: NotRequired[str]
    multivector_config: NotRequired[dict[str, str]]
    hnsw_config: NotRequired[dict[str, int]]


class SparseParams(TypedDict):
    """A sparse vector."""

    modifier: str


class CollectionSchema(TypedDict):
    """The body of the request that makes the collection."""

    vectors: dict[str, DenseParams]
    sparse_vectors: dict[str, SparseParams]
    quantization_config: QuantizationConfig | None
    metadata: dict[str, dict[str, str]]
    """Under FINGERPRINTS, by vector."""


class ScalarQuantization(TypedDict):
    """Numbers as int8, scaled to the given quantile."""

    type: str
    quantile: float
    always_ram: bool


class QuantizationConfig(TypedDict):
    """The quantized copy of the vectors, which the server compares first."""

    scalar: ScalarQuantization


_SCALAR = QuantizationConfig(scalar=ScalarQuantization(type="int8", quantile=0.99, always_ram=True))


def collection_name(root: Path) -> str:
    """The collection's name where none is given: the run directory's, in letters, digits, `.`, `_` and `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.absolute().name).strip("-.")
    return name[:100] or "embedfleet"


def sparse_modifier(kind: str) -> Literal["idf", "none"]:
    """`idf` for BM25, whose term weights the engine multiplies by IDF; `none` for learned weights."""
    return "idf" if kind == "bm25" else "none"


def collection_schema(run: DoneRun, quantization: Quantization = None) -> CollectionSchema:
    """Named vectors with size, distance and number format, MaxSim for multivectors, sparse vectors with their modifier.

    The number formats are those of the Edge shard: float16 for `--store float16` and for multivectors, float32 otherwise.
    Also for int8 and binary: Qdrant's uint8 has one scale for all dimensions, ours has one for each. Use quantization to
    make those small on a server. Multivectors are compared exactly, without a graph.

    RunDirectoryError if the last export's description is needed and cannot be read.
    """
    outputs = {one.vector: one for one in run.spec.outputs}
    vectors, sparse = dict[str, DenseParams](), dict[str, SparseParams]()
    for name, shape in run.shapes().items():
        if shape.form == "sparse":
            sparse[name] = {"modifier": sparse_modifier(outputs[name].kind)}
            continue
        params = vectors[name] = DenseParams(size=shape.dim, distance=DISTANCE)
        if shape.form == "multivector" or outputs[name].storage == "float16":
            params["datatype"] = "float16"
        if shape.form == "multivector":
            params["multivector_config"], params["hnsw_config"] = {"comparator": "max_sim"}, {"m": 0}
    return {
        "vectors": vectors,
        "sparse_vectors": sparse,
        "quantization_config": _quantization(run.layout.collection, quantization),
        "metadata": {FINGERPRINTS: run.fingerprints()},
    }


def _quantization(described: Path, asked: Quantization) -> QuantizationConfig | None:
    """The configuration asked for; by default that of the last export, from `described`."""
    if asked is not None:
        return _SCALAR if asked == "scalar" else None
    try:
        return decode_json(described.read_bytes(), dict[str, Any])["create"]["quantization_config"]
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise RunDirectoryError(
            f"{described}: cannot be read ({error}); delete it, or say --quantization none or scalar"
        ) from error
