"""The flags of `embedfleet run` that concern vectors, as a spec."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.client.spec_flags import build_spec
from embedfleet.protocol.ensembles import EnsembleSpec
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec import RunSpec


def build(**changes: Any) -> RunSpec:
    flags: dict[str, Any] = {name: [] for name in ("dense", "sparse", "multivector", "heads")}
    flags |= {"text_field": None, "id_field": None, "limit": None, "index": "edge", "fallback": True}
    return build_spec("-", **(flags | changes))


def test_options_of_dense_vectors_reach_dense_passes_only() -> None:
    spec = build(dense=["fake:8"], sparse=["fake:50", "bm25"], multivector=["fake:4"], truncate_dim=4, storage="int8")
    assert [(one.kind, one.truncate_dim, one.storage) for one in spec.passes] == [
        ("dense", 4, "int8"),
        ("multivector", None, "float32"),
        ("sparse", None, "float32"),
        ("bm25", None, "float32"),
    ]


def test_an_ensemble_is_of_all_dense_vectors_in_their_order() -> None:
    spec = build(dense=["fake:1024"], heads=["bge-m3"], ensemble=["concat", "average"], weights="2,0.5")
    members = ("dense-fake-1024", "dense-bge-m3")
    assert spec.ensembles == tuple(
        EnsembleSpec(vector=f"ensemble-{method}", method=method, members=members, weights=(2.0, 0.5))
        for method in ("concat", "average")
    )
    assert build(dense=["fake:8", "fake:9"], ensemble=["concat"]).ensembles[0].weights == (1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": "1,2"}, "give --ensemble concat or average too"),
        ({"weights": "1;2", "ensemble": ["concat"]}, "--weights 1;2: give numbers with commas"),
        ({"weights": "1,2,3", "ensemble": ["concat"]}, "3 weights for 2 dense vectors.*dense-fake-8, dense-fake-9"),
        ({"weights": "1,-2", "ensemble": ["concat"]}, "--weights 1,-2: give numbers above 0"),
        ({"weights": "1,nan", "ensemble": ["concat"]}, "give numbers above 0"),
        ({"dense": ["fake:8"], "ensemble": ["average"]}, "at least two different dense models"),
        ({"dense": [], "sparse": ["bm25"], "truncate_dim": 4}, "--truncate-dim is for dense vectors"),
        ({"dense": [], "sparse": ["bm25"], "storage": "binary"}, "--store is for dense vectors"),
    ],
)
def test_flags_that_mean_nothing_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        build(**({"dense": ["fake:8", "fake:9"]} | changes))
