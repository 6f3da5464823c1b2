"""RunSummary: the JSON that `embedfleet run --json` prints."""

from __future__ import annotations

from typing import Any, TypedDict

from ...protocol.run_directory.truncation import Truncation
from ...protocol.wire.control import PassSummary, RunEnded

JsonObject = dict[str, Any]


class RunSummary(TypedDict, total=False):
    """First the corpus, then the later steps. A run that was interrupted early has only `status`."""

    run: str
    status: str
    chunks: int
    committed: int
    quarantined: int
    skipped_duplicates: int
    notes: dict[str, int]
    seconds: float
    passes: list[JsonObject]
    error: str
    rerank: JsonObject
    """The file of the ranking, counts of the queries, `candidates.json`, and the manifest's section `rerank_run`."""
    evaluation: JsonObject
    """`evaluation.json`."""
    export: list[JsonObject]
    """The files of `export.json`."""


def summary(ending: RunEnded) -> RunSummary:
    """The part of the JSON that is about the corpus."""
    printed = RunSummary(
        run=ending.run,
        status=ending.status,
        chunks=ending.chunks,
        committed=ending.committed,
        quarantined=ending.quarantined,
        skipped_duplicates=ending.skipped_duplicates,
        notes=ending.notes,
        seconds=ending.seconds,
        passes=[_pass_summary(one) for one in ending.passes],
    )
    if ending.error:
        printed["error"] = ending.error
    return printed


def _pass_summary(pass_: PassSummary) -> JsonObject:
    """One pass. Device, rates and padding are null if this session computed nothing."""
    computed = {
        "device": pass_.device,
        "chunks_per_second": pass_.chunks_per_second,
        "tokens_per_second": pass_.tokens_per_second,
        "padding": pass_.padding,
    }
    return {
        "vector": pass_.vector,
        "model": pass_.model,
        "chunks": pass_.chunks,
        "computed": pass_.computed,
        "seconds": pass_.seconds,
        **(computed if pass_.computed else dict.fromkeys(computed)),
        "rotation_gap_seconds": pass_.rotation_gap_seconds,
        **(pass_.truncation.record() if pass_.truncation is not None else dict.fromkeys(Truncation().record())),
    }
