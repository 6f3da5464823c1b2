"""The flags of `embedfleet run` that concern vectors, as a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.options.spec_builder import build_spec, split_names
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import RunSpec


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
    both = build(dense=["fake:8", "fake:9"], ensemble=["concat", "average"], project=True).ensembles
    assert [one.project for one in both] == [False, True]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": "1,2"}, "give --ensemble concat or average too"),
        ({"project": True, "ensemble": ["concat"]}, "--project is for an average .* give --ensemble average too"),
        ({"weights": "1;2", "ensemble": ["concat"]}, "--weights 1;2: give numbers with commas"),
        ({"weights": "1,2,3", "ensemble": ["concat"]}, "3 weights for 2 dense vectors.*dense-fake-8, dense-fake-9"),
        ({"weights": "1,-2", "ensemble": ["concat"]}, "--weights 1,-2: give numbers above 0"),
        ({"weights": "1,nan", "ensemble": ["concat"]}, "give numbers above 0"),
        ({"weights": "inf,1", "ensemble": ["average"]}, "--weights inf,1: give numbers above 0"),
        ({"weights": "1,1e999", "ensemble": ["concat"]}, "--weights 1,inf: give numbers above 0"),
        ({"weights": "0,1", "ensemble": ["concat"]}, "--weights 0,1: give numbers above 0"),
        ({"weights": "1e308,1e308", "ensemble": ["concat"]}, r"--weights 1e\+308,1e\+308: their sum is too large"),
        ({"weights": "1e-320,1", "ensemble": ["average"]}, "1e-320,1: 1e-320 is too small beside the others"),
        ({"weights": "1,1e38", "ensemble": ["concat"]}, r"1,1e\+38: 1 is too small beside the others"),
        ({"weights": "5e-324,1e308", "ensemble": ["concat"]}, "too small beside the others"),
        ({"dense": ["fake:8"], "ensemble": ["average"]}, "at least two different dense models"),
        ({"dense": [], "sparse": ["bm25"], "truncate_dim": 4}, "--truncate-dim is for dense vectors"),
        ({"dense": [], "sparse": ["bm25"], "storage": "binary"}, "--store is for dense vectors"),
        (
            {"sparse": ["bm25"], "max_active_dims": 9},
            "--max-active-dims is for learned sparse weights: give .* --sparse",
        ),
        (
            {"sparse": ["fake:8"], "pool_factor": 2},
            "--pool-factor is for multivectors: give a model with --multivector or --heads",
        ),
    ],
)
def test_flags_that_mean_nothing_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        build(**({"dense": ["fake:8", "fake:9"]} | changes))


def test_tokens_of_heads_may_be_pooled() -> None:
    assert [one.pool_factor for one in build(heads=["bge-m3"], pool_factor=2).passes] == [2]


def test_a_vector_may_be_given_a_name() -> None:
    spec = build(
        dense=["old=/x/m", "dense-new=/y/m@r1", "fake:8,delay_ms=5"],
        sparse=["terms=bm25"],
        heads=["h=BAAI/bge-m3"],
        ensemble=["concat"],
    )
    assert [(one.vector, one.model, one.revision) for one in spec.passes] == [
        ("dense-old", "/x/m", None),
        ("dense-new", "/y/m", "r1"),
        ("dense-fake-8", "fake:8,delay_ms=5", None),
        ("heads-h", "BAAI/bge-m3", None),
        ("sparse-terms", "bm25", None),
    ]
    assert [one.vector for one in spec.outputs][3:6] == ["dense-h", "sparse-h", "multivector-h"]
    assert spec.ensembles[0].members == ("dense-old", "dense-new", "dense-fake-8", "dense-h")


def test_a_folder_with_the_sign_in_its_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a=b").mkdir()
    monkeypatch.chdir(tmp_path)
    (one,) = build(dense=["a=b"]).passes
    assert (one.vector, one.model) == ("dense-a-b", str(tmp_path / "a=b"))


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (["x/m", "y/m"], r"'dense-m' would be written twice, by x/m and by y/m; .* as in NAME=y/m"),
        (["x/m", "x/m"], "by x/m and by x/m; give it once"),
        (["a=x/m", "a=y/m"], r"'dense-a' would be written twice, by x/m and by y/m"),
        (["A b=x/m"], "vector name 'dense-A b': use lower-case letters"),
        (["=x/m"], "give a name for the vector before the sign ="),
        (["a="], "--dense 'a=': a model's name is empty"),
    ],
)
def test_names_that_cannot_be(models: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        build(dense=models)


def test_names_with_commas_between() -> None:
    assert split_names(["a, b", "c"], "--signals") == ["a", "b", "c"]
    assert split_names(None, "--signals") == []
    for nothing in ([""], [" , "], ["", ""]):
        with pytest.raises(UsageError, match=r"--signals '.*': names nothing"):
            split_names(nothing, "--signals")
