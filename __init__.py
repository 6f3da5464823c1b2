"""embedfleet: every retrieval signal for every chunk, over all GPUs, with nothing lost.

The public face: what a user calls, and all that their signatures name. Nothing heavy is imported until a name is used: no
torch, no zmq, no pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.client import Client
    from .client.evaluation.contributions import OnlyIt, SignalFigures
    from .client.evaluation.evaluation import Evaluation, Figures
    from .client.evaluation.paired import Difference
    from .client.evaluation.query_results import JudgedChunk, QueryRanking, QueryResult
    from .client.evaluation.ranking_costs import Cost
    from .client.evaluation.recommendation import Against, Recommendation, SetFigures
    from .client.evaluation.setting import Setting, SignalModel
    from .client.notebook.chunk_source import ChunkSource
    from .client.notebook.embedder import Embedder
    from .client.notebook.ranking_reader import RankedChunk, Ranking
    from .client.notebook.run_telemetry import Event, RunTelemetry
    from .client.planning.plan import Figure, Plan, PlannedMemory, PlannedPass, PlannedVector
    from .client.planning.planner import plan
    from .client.run_directory.multivectors import Multivectors
    from .client.run_directory.reader import Run, open_run
    from .client.run_directory.sparse_vectors import SparseVectors
    from .client.search.filter_keys import Filters
    from .client.search.hit import Hit
    from .client.steps.merge import merge
    from .protocol.errors import (
        DeviceError,
        EmbedfleetError,
        ModelError,
        RunDirectoryError,
        RunFailed,
        SourceError,
        SpecMismatch,
        Unreachable,
        UsageError,
    )
    from .protocol.finished_run.npy_file import NpyDtype
    from .protocol.finished_run.payload import Metadata
    from .protocol.planning.model_figures import Basis
    from .protocol.run_directory.records.quarantine import QuarantineLine
    from .protocol.run_directory.tables import FloatArray
    from .protocol.run_directory.truncation import Truncation, TruncationRecord
    from .protocol.spec.ensemble_spec import EnsembleSpec, Method
    from .protocol.spec.int8_ranges import Int8Ranges
    from .protocol.spec.run_spec import Backend, Dtype, Form, Index, Kind, Output, PassSpec, RunSpec, Storage
    from .protocol.spec.shard import Shard
    from .protocol.version import __version__
    from .protocol.wire.control import (
        DeviceState,
        PassProgress,
        PassSummary,
        Progress,
        RunEnded,
        RunState,
        Status,
    )
    from .protocol.wire.run_options import Placement, RunOptions

_HOMES = {
    ".client.client": ("Client",),
    ".client.evaluation.contributions": ("OnlyIt", "SignalFigures"),
    ".client.evaluation.evaluation": ("Evaluation", "Figures"),
    ".client.evaluation.paired": ("Difference",),
    ".client.evaluation.ranking_costs": ("Cost",),
    ".client.evaluation.recommendation": ("Against", "Recommendation", "SetFigures"),
    ".client.notebook.chunk_source": ("ChunkSource",),
    ".client.notebook.embedder": ("Embedder",),
    ".client.notebook.ranking_reader": ("RankedChunk", "Ranking"),
    ".client.notebook.run_telemetry": ("Event", "RunTelemetry"),
    ".client.planning.plan": ("Figure", "Plan", "PlannedMemory", "PlannedPass", "PlannedVector"),
    ".client.planning.planner": ("plan",),
    ".client.run_directory.multivectors": ("Multivectors",),
    ".client.run_directory.reader": ("Run", "open_run"),
    ".client.run_directory.sparse_vectors": ("SparseVectors",),
    ".client.search.filter_keys": ("Filters",),
    ".client.search.hit": ("Hit",),
    ".client.steps.merge": ("merge",),
    ".protocol.finished_run.npy_file": ("NpyDtype",),
    ".client.evaluation.query_results": (
        "JudgedChunk",
        "QueryRanking",
        "QueryResult",
    ),
    ".client.evaluation.setting": (
        "Setting",
        "SignalModel",
    ),
    ".protocol.errors": (
        *("DeviceError", "EmbedfleetError", "ModelError", "RunDirectoryError", "RunFailed", "SourceError"),
        *("SpecMismatch", "Unreachable", "UsageError"),
    ),
    ".protocol.finished_run.payload": ("Metadata",),
    ".protocol.planning.model_figures": ("Basis",),
    ".protocol.run_directory.records.quarantine": ("QuarantineLine",),
    ".protocol.run_directory.tables": ("FloatArray",),
    ".protocol.run_directory.truncation": ("Truncation", "TruncationRecord"),
    ".protocol.spec.ensemble_spec": ("EnsembleSpec", "Method"),
    ".protocol.spec.int8_ranges": ("Int8Ranges",),
    ".protocol.spec.shard": ("Shard",),
    ".protocol.spec.run_spec": (
        *("Backend", "Dtype", "Form", "Index", "Kind", "Output", "PassSpec", "RunSpec", "Storage"),
    ),
    ".protocol.version": ("__version__",),
    ".protocol.wire.control": (
        *("DeviceState", "PassProgress", "PassSummary", "Progress", "RunEnded", "RunState", "Status"),
    ),
    ".protocol.wire.run_options": ("Placement", "RunOptions"),
}
"""The names of each module."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Against",
    "Backend",
    "Basis",
    "ChunkSource",
    "Client",
    "Cost",
    "DeviceError",
    "DeviceState",
    "Difference",
    "Dtype",
    "Embedder",
    "EmbedfleetError",
    "EnsembleSpec",
    "Evaluation",
    "Event",
    "Figure",
    "Figures",
    "Filters",
    "FloatArray",
    "Form",
    "Hit",
    "Index",
    "Int8Ranges",
    "JudgedChunk",
    "Kind",
    "Metadata",
    "Method",
    "ModelError",
    "Multivectors",
    "NpyDtype",
    "OnlyIt",
    "Output",
    "PassProgress",
    "PassSpec",
    "PassSummary",
    "Placement",
    "Plan",
    "PlannedMemory",
    "PlannedPass",
    "PlannedVector",
    "Progress",
    "QuarantineLine",
    "QueryRanking",
    "QueryResult",
    "RankedChunk",
    "Ranking",
    "Recommendation",
    "Run",
    "RunDirectoryError",
    "RunEnded",
    "RunFailed",
    "RunOptions",
    "RunSpec",
    "RunState",
    "RunTelemetry",
    "SetFigures",
    "Setting",
    "Shard",
    "SignalFigures",
    "SignalModel",
    "SourceError",
    "SparseVectors",
    "SpecMismatch",
    "Status",
    "Storage",
    "Truncation",
    "TruncationRecord",
    "Unreachable",
    "UsageError",
    "__version__",
    "merge",
    "open_run",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
