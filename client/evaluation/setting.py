"""The setting of an evaluation: corpus, date, versions, models, and how the signals were searched and fused."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from ...protocol.index.rank_fusion import RRF_K
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.records.sections import CrossEncoderRerankRun
from ...protocol.version import __version__
from ..run_directory.description import VectorDescription
from ..run_directory.info import describe_run


class SignalModel(msgspec.Struct, frozen=True, kw_only=True):
    """What made a signal."""

    name: str
    model: str
    revision: str
    """Empty where it has none, as a model in a folder."""
    dim: int
    """Dimensions; 0 for a sparse vector."""
    dtype: str
    storage: str
    """The number format on the disk; empty for other vectors than dense ones."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a reader of the figures must know of how they were made."""

    corpus: str
    chunks: int
    date: str
    """Of the evaluation: UTC, as in 2024-02-29."""
    versions: dict[str, str]
    """Of embedfleet and of the libraries that computed."""
    models: tuple[SignalModel, ...]
    fused: tuple[str, ...]
    fusion: str
    reranker: str
    """Empty without one."""
    search_seconds: dict[str, float]
    """Of one query, encoded before: `p50`, `p95` and others, for the search of all signals and their fusion."""


def describe_setting(layout: RunLayout, record: CandidatesRecord, rerank: CrossEncoderRerankRun | None) -> Setting:
    """The setting of the run in `layout`. RunDirectoryError if a file of it cannot be read."""
    run = describe_run(layout.root)
    passes = {one["vector"]: read_pass(layout, one["vector"]) or PassRecord() for one in run["vectors"]}
    versions = {name: version for one in passes.values() for name, version in (one.versions or {}).items()}
    return Setting(
        corpus=str(run["spec"]["source"]),
        chunks=run["chunks"]["rows"],
        date=datetime.now(UTC).date().isoformat(),
        versions={"embedfleet": __version__, **versions},
        models=tuple(_model(one, passes[one["vector"]]) for one in run["vectors"]),
        fused=record.fused or record.signals,
        fusion=f"reciprocal ranks, k = {RRF_K}",
        reranker=rerank.model if rerank is not None else "",
        search_seconds=record.query_seconds,
    )


def _model(vector: VectorDescription, about: PassRecord) -> SignalModel:
    return SignalModel(
        name=vector["vector"],
        model=vector["model"],
        revision=about.revision or "",
        dim=vector["dim"] or 0,
        dtype=vector["dtype"],
        storage=vector["storage"] or "",
    )
