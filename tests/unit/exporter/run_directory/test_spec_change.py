"""Another spec for a directory that holds a run: what is taken, and what then is gone from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.exporter.run_directory.owned_directory import RunDirectory
from embedfleet.protocol.errors import SpecMismatch
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import with_info
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import Kind, PassSpec, RunSpec

SEGMENT = b"PAR1 as far as anyone looks PAR1"


def dense(name: str, kind: Kind = "dense", **options: int) -> PassSpec:
    return PassSpec(vector=name, kind=kind, model="fake:4", **options)


A, B, C = dense("dense-a"), dense("dense-b"), dense("dense-c")
HEADS = PassSpec(vector="heads-h", kind="bge-m3", model="bge-m3")


def spec_of(*passes: PassSpec, limit: int | None = None, members: Sequence[str] = ()) -> RunSpec:
    weights = (1.0,) * len(members)
    ensemble = EnsembleSpec(vector="ensemble-x", method="concat", members=tuple(members), weights=weights)
    return RunSpec(source="/s", passes=passes, limit=limit, ensembles=(ensemble,) if members else ())


def made(root: Path, spec: RunSpec, *computed: str) -> RunLayout:
    """A directory of `spec` in which these vectors have a segment, the others were begun, and the shard has something."""
    directory = RunDirectory(root, spec, restart=False)
    directory.release()
    layout = RunLayout(root)
    for output in spec.outputs:
        layout.pass_file(output.vector).write_text("{}")
    for vector in computed:
        layout.vector_segment(vector, 0).write_bytes(SEGMENT)
    layout.chunk_segment(0).write_bytes(SEGMENT)
    layout.edge.mkdir()
    layout.published.write_text('{"segments":{"0":"x"}}')
    return layout


@pytest.mark.parametrize(
    ("before", "computed", "after"),
    [
        (spec_of(A, B), ["dense-a"], spec_of(A, C)),
        (spec_of(B, A), ["dense-a"], spec_of(A)),
        (spec_of(A), ["dense-a"], spec_of(A, B)),
        (spec_of(A, B), ["dense-a"], spec_of(A, dense("dense-b", max_tokens=9))),
        (spec_of(A, HEADS), ["dense-a"], spec_of(A, dense("dense-h"))),
        (
            spec_of(A, B, members=("dense-a", "dense-b")),
            ["dense-a"],
            spec_of(A, C, members=("dense-a", "dense-c")),
        ),
    ],
)
def test_passes_without_a_segment_go_and_new_ones_come(
    tmp_path: Path, before: RunSpec, computed: list[str], after: RunSpec
) -> None:
    layout = made(tmp_path / "run", before, *computed)
    directory = RunDirectory(layout.root, after, restart=False)
    assert [directory.standing(output.vector) for output in after.outputs] == [
        {0} if output.vector in computed else set() for output in after.outputs
    ]
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == after
    assert {path.name for path in layout.vectors.iterdir()} == {output.vector for output in after.outputs}
    assert not any(layout.pass_file(one.vector).exists() for one in after.outputs if one.vector not in computed)
    assert layout.pass_file("dense-a").exists()
    assert layout.chunk_segment(0).exists()


def test_the_shard_and_what_was_ranked_by_it_are_made_anew(tmp_path: Path) -> None:
    layout = made(tmp_path / "run", spec_of(A), "dense-a")
    layout.rerank.mkdir()
    layout.rerank_record.write_text("{}")
    RunDirectory(layout.root, spec_of(A), restart=False).release()
    assert layout.edge.exists()
    assert layout.published.exists()
    assert layout.rerank_record.exists()
    RunDirectory(layout.root, spec_of(A, B), restart=False).release()
    assert not layout.edge.exists()
    assert not layout.published.exists()
    assert not layout.rerank_record.exists()


@pytest.mark.parametrize(
    ("before", "computed", "after", "words"),
    [
        (spec_of(A, B), ["dense-a", "dense-b"], spec_of(A, C), "dense-b is gone"),
        (spec_of(A, B), ["dense-a"], spec_of(A, C, limit=7), "limit: None → 7"),
        (spec_of(A, B), ["dense-a", "dense-b"], spec_of(B, A), "passes: their order"),
        (spec_of(A, B), ["dense-b"], spec_of(A, dense("dense-b", max_tokens=9)), "dense-b.max_tokens: None → 9"),
        (spec_of(A, HEADS), ["sparse-h"], spec_of(A, dense("dense-h")), "heads-h is gone"),
        (
            spec_of(A, B, members=("dense-a", "dense-b")),
            ["dense-a", "dense-b", "ensemble-x"],
            spec_of(A, B, C, members=("dense-a", "dense-c")),
            "ensembles",
        ),
    ],
)
def test_what_was_computed_is_not_taken_away(
    tmp_path: Path, before: RunSpec, computed: list[str], after: RunSpec, words: str
) -> None:
    layout = made(tmp_path / "run", before, *computed)
    with pytest.raises(SpecMismatch, match=words):
        RunDirectory(layout.root, after, restart=False)
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == before
    assert all(layout.vector_segment(vector, 0).exists() for vector in computed)
    assert layout.edge.exists()
    assert all(layout.pass_file(output.vector).exists() for output in before.outputs)


def test_a_collection_may_be_added_to_a_run_that_has_none_but_not_left_out(tmp_path: Path) -> None:
    layout = made(tmp_path / "run", msgspec.structs.replace(spec_of(A), index="none"), "dense-a")
    directory = RunDirectory(layout.root, spec_of(A, B), restart=False)
    directory.release()
    assert directory.standing("dense-a") == {0}
    assert msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec) == spec_of(A, B)
    with pytest.raises(SpecMismatch, match="index: 'edge' → 'none'"):
        RunDirectory(layout.root, msgspec.structs.replace(spec_of(A, B), index="none"), restart=False)


@pytest.mark.parametrize(("weights", "goes"), [(0, True), (1, False), (None, False)])
def test_a_pass_of_the_metadata_goes_where_no_chunk_had_weights(
    tmp_path: Path, weights: int | None, goes: bool
) -> None:
    """None: the file is torn, and nobody knows."""
    bare = PassSpec(vector="sparse-metadata", kind="metadata", model="metadata")
    layout = made(tmp_path / "run", spec_of(A, bare), "dense-a", "sparse-metadata")
    if weights is not None:
        info = VectorSegmentInfo(
            vector="sparse-metadata", segment=0, first_row=0, rows=1, quarantined=0, tokens=0, stood_in=weights,
            fingerprint="", digest="",
        )  # fmt: skip
        pq.write_table(with_info(pa.table({"row": [0]}), info), layout.vector_segment("sparse-metadata", 0))
    if goes:
        RunDirectory(tmp_path / "run", spec_of(A), restart=False).release()
        assert not layout.vector_folder("sparse-metadata").exists()
    else:
        with pytest.raises(SpecMismatch, match="sparse-metadata is gone"):
            RunDirectory(tmp_path / "run", spec_of(A), restart=False)
