"""`docs/run-directory.md` names each file of a run directory, each column of its tables and each field of its records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from embedfleet.client.evaluation.evaluation import Evaluation, Figures
from embedfleet.protocol.finished_run.candidates import candidates_schema, ranking_schema
from embedfleet.protocol.run_directory.directory_lock import Holder
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.candidates import CandidatesRecord
from embedfleet.protocol.run_directory.records.exports import ExportedFile, ExportRecord, ReportedFile, ReportRecord
from embedfleet.protocol.run_directory.records.fit import FitRecord, FittedRanges, TermCount
from embedfleet.protocol.run_directory.records.intake import FileStamp, IntakeRecord, SegmentLimits
from embedfleet.protocol.run_directory.records.manifest import Counts, IndexCounts, Manifest, ManifestPass
from embedfleet.protocol.run_directory.records.merge import MergeRecord
from embedfleet.protocol.run_directory.records.passes import PassRecord
from embedfleet.protocol.run_directory.records.quarantine import QuarantineLine
from embedfleet.protocol.run_directory.records.sections import CrossEncoderRerankRun, SparseInferenceRun
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.run_directory.segment_info import (
    ChunkSegmentInfo,
    Cursor,
    Passed,
    TokenVectors,
    VectorSegmentInfo,
)
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA, TOKENS_CUT, vector_schema
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.int8_ranges import Int8Ranges
from embedfleet.protocol.spec.run_spec import Form, PassSpec, RunSpec
from embedfleet.protocol.statistics.histogram import LogHistogram
from embedfleet.protocol.statistics.pass_stats import PassStats
from embedfleet.protocol.statistics.run_stats import RunStats

PAGE = (Path(__file__).parents[5] / "docs" / "run-directory.md").read_text()
NAMED = set(re.findall(r"`([^`]+)`", PAGE))
STRUCTS: list[Any] = [
    *(RunSpec, PassSpec, EnsembleSpec, Holder, PassRecord, Int8Ranges, Manifest, ManifestPass, Counts, IndexCounts),
    *(SparseInferenceRun, CrossEncoderRerankRun, RunStats, PassStats, LogHistogram, CandidatesRecord),
    *(ExportRecord, ExportedFile, ReportRecord, ReportedFile, SegmentLimits, FileStamp, IntakeRecord),
    *(
        ChunkSegmentInfo,
        VectorSegmentInfo,
        Cursor,
        Passed,
        TokenVectors,
        Evaluation,
        Figures,
        ShardsRecord,
        MergeRecord,
        FitRecord,
        FittedRanges,
        TermCount,
    ),
]
FOLDERS = {
    *("root", "chunks", "intake_folder", "vectors", "passes", "cache", "edge", "export", "table", "rerank", "queries"),
    "scores",
}


IN_MESSAGES = {"earlier"}
"""A session says it of a pass; the file has `untimed`."""


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda one: one.__name__)
def test_each_field_is_named(kind: Any) -> None:
    assert {*kind.__struct_fields__} - IN_MESSAGES - NAMED == set()


def test_each_field_of_the_quarantine_is_named() -> None:
    assert {*QuarantineLine.__annotations__} - NAMED == set()


def test_each_file_is_named() -> None:
    layout = RunLayout(Path("/run"))
    names = {name for name, one in vars(RunLayout).items() if isinstance(one, property)} - FOLDERS
    files = {getattr(layout, name) for name in names}
    files |= {layout.pass_file("NAME"), layout.vector_segment("NAME", 0)}
    files |= {layout.chunk_segment(0), layout.rejected_segment(0)}
    assert {path.relative_to("/run").as_posix() for path in files} - NAMED == set()
    for folder in (layout.edge, layout.queries, layout.scores, layout.cache, layout.table):
        assert f"{folder.relative_to('/run').as_posix()}/" in NAMED


def test_each_column_is_named() -> None:
    columns = {*CHUNK_SCHEMA.names, TOKENS_CUT.name, *candidates_schema(["NAME"]).names, *ranking_schema([]).names}
    for form in get_args(Form):
        columns |= {*vector_schema(form, 4).names}
    assert {name for name in columns if name not in NAMED and not any(name in one.split() for one in NAMED)} == set()
