from __future__ import annotations

import json
from pathlib import Path

import pytest
from embedfleet.protocol.index.fusion import fused_names, has_only_metadata_weights, metadata_vectors
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.vectors.metadata_terms import METADATA_WEIGHTS

DENSE = ("dense-a", "dense-b", "dense-c")
METADATA = ["sparse-metadata", "sparse-lost"]


def ensemble(name: str, *members: str) -> EnsembleSpec:
    return EnsembleSpec(vector=name, method="concat", members=members, weights=(1.0,) * len(members))


def spec_of(*ensembles: EnsembleSpec) -> RunSpec:
    passes = [PassSpec(vector=name, kind="dense", model="fake:8") for name in DENSE]
    passes += [PassSpec(vector=name, kind="sparse", model="lost") for name in ("sparse-lost", "sparse-lost-too")]
    passes.append(PassSpec(vector="sparse-metadata", kind="metadata", model="metadata"))
    return RunSpec(source="/c.jsonl", passes=tuple(passes), ensembles=ensembles)


FIRST, SECOND = ensemble("ensemble-1", *DENSE[:2]), ensemble("ensemble-2", *DENSE[:2])
WIDER = ensemble("ensemble-3", *DENSE)


@pytest.mark.parametrize(
    ("ensembles", "signals", "named", "fused"),
    [
        ((), DENSE, (), DENSE),
        ((FIRST,), (*DENSE, "ensemble-1"), (), ("dense-c", "ensemble-1")),
        ((FIRST, SECOND), (*DENSE, "ensemble-1", "ensemble-2"), (), ("dense-c", "ensemble-1")),
        ((SECOND, FIRST), (*DENSE, "ensemble-2", "ensemble-1"), (), ("dense-c", "ensemble-2")),
        ((FIRST, WIDER), (*DENSE, "ensemble-1", "ensemble-3"), (), ("ensemble-1", "ensemble-3")),
        ((FIRST,), DENSE, (), DENSE),  # the query has no vector of the ensemble
        ((FIRST,), ("dense-a", "ensemble-1"), ("dense-a", "ensemble-1"), ("dense-a", "ensemble-1")),
        ((FIRST, SECOND), (*DENSE, "ensemble-1", "ensemble-2"), ("ensemble-2", "dense"), ("dense-c", "ensemble-2")),
        ((), ("sparse-lost", "sparse-metadata"), (), ("sparse-metadata",)),
        ((), ("dense-a", "sparse-lost"), (), ("dense-a", "sparse-lost")),
        (
            (),
            ("sparse-lost", "sparse-metadata"),
            ("sparse-lost", "sparse-metadata"),
            ("sparse-lost", "sparse-metadata"),
        ),
    ],
)
def test_what_is_fused(
    ensembles: tuple[EnsembleSpec, ...], signals: tuple[str, ...], named: tuple[str, ...], fused: tuple[str, ...]
) -> None:
    assert tuple(fused_names(spec_of(*ensembles), signals, METADATA, named)) == fused


def test_which_vectors_are_wholly_of_the_metadata(tmp_path: Path) -> None:
    layout, spec = RunLayout(tmp_path), spec_of()
    layout.passes.mkdir()
    for name, about in (
        ("dense-a", {"pooling": METADATA_WEIGHTS}),  # no sparse vector
        ("sparse-lost", {"pooling": METADATA_WEIGHTS}),
        ("sparse-lost-too", {"pooling": "splade"}),
        ("sparse-metadata", {"pooling": METADATA_WEIGHTS}),
    ):
        layout.pass_file(name).write_text(json.dumps(about))
    assert metadata_vectors(layout, spec) == METADATA
    layout.pass_file("sparse-lost").write_text("{")
    layout.pass_file("sparse-metadata").unlink()
    assert not any(has_only_metadata_weights(layout, one) for one in spec.passes)
