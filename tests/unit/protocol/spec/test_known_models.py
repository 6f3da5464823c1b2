"""What a spec alone tells of its models: impossible ones are refused when it is built, and when it is submitted."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.protocol.errors import ModelError, UsageError
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec, Method
from embedfleet.protocol.spec.known_models import check_known
from embedfleet.protocol.spec.run_spec import Kind, PassSpec, RunSpec


def one(model: str, name: str = "dense-a", kind: Kind = "dense", **options: Any) -> PassSpec:
    return PassSpec(vector=name, kind=kind, model=model, **options)


def spec_of(*passes: PassSpec, method: Method | None = None) -> RunSpec:
    names = tuple(output.vector for each in passes for output in each.outputs if output.form == "dense")
    weights = (1.0,) * len(names)
    ensembles = (EnsembleSpec(vector="e", method=method, members=names, weights=weights),) if method else ()
    return RunSpec(source="s", passes=passes, ensembles=ensembles)


@pytest.mark.parametrize(
    ("passes", "method"),
    [
        ((one("fake:8"), one("fake:9", "dense-b")), "concat"),
        ((one("fake:8", truncate_dim=4), one("fake:9", "dense-b", truncate_dim=4)), "average"),
        ((one("fake:384"), one("all-MiniLM-L6-v2", "dense-b")), "average"),
        ((one("fake:8"), one("/some/folder", "dense-b")), "average"),
        ((one("fake:8"), one("bge-m3", "dense-b", revision="other")), "average"),
        ((one("fake:10", "sparse-a", "sparse"), one("bm25", "sparse-b", "bm25")), None),
        ((one("fake:16", storage="binary"),), None),
        ((one("ms-marco-MiniLM-L6-v2", "rerank-a", "rerank"),), None),
        ((one("fake:8"), one("answerai-colbert-small-v1", "multivector-a", "multivector")), None),
    ],
)
def test_what_may_work_passes(passes: tuple[PassSpec, ...], method: Method | None) -> None:
    check_known(spec_of(*passes, method=method))


@pytest.mark.parametrize(
    ("passes", "method", "words"),
    [
        ((one("fake:8"), one("fake:9", "dense-b")), "average", "dense-a has 8, dense-b has 9"),
        ((one("fake:8"), one("bge-m3", "heads-b", "bge-m3")), "average", "dense-a has 8, dense-b has 1024"),
        ((one("BAAI/bge-m3", storage="binary", truncate_dim=10),), None, "10 dimensions, which is no multiple of 8"),
        ((one("fake:10", storage="binary"),), None, "10 dimensions, which is no multiple of 8"),
    ],
)
def test_dimensions_that_cannot_work_are_refused(
    passes: tuple[PassSpec, ...], method: Method | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check_known(spec_of(*passes, method=method))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (one("fake:none"), "give the dimension"),
        (one("bge-reranker-base"), "none for --dense: give it with --rerank"),
        (one("answerai-colbert-small-v1", "sparse-a", "sparse"), "none for --sparse: give it with --multivector"),
        (one("fake:8,speed=9"), "speed=9"),
        (one("fake:8", "sparse-a", "bm25"), "no fake encoder of kind 'bm25'"),
        (one("fake:8", truncate_dim=9), "--truncate-dim 9: the vectors of fake:8 have 8 dimensions"),
        (one("all-MiniLM-L6-v2", truncate_dim=400), "have 384 dimensions"),
    ],
)
def test_an_impossible_model_is_refused(wrong: PassSpec, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        check_known(spec_of(wrong))
