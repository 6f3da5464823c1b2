"""Ensembles: the arithmetic, and which of them cannot be."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec, check_ensemble, ensemble_dim
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.output_dims import output_dims
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.vectors.projection import projection

NAMES = ("dense-a", "dense-b", "dense-c")


def ensemble(method: Any, weights: tuple[float, ...]) -> EnsembleSpec:
    return EnsembleSpec(vector=f"ensemble-{method}", method=method, members=NAMES[: len(weights)], weights=weights)


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_dot_product_of_concats_is_the_weighted_sum_of_the_cosines() -> None:
    one = ensemble("concat", (3.0, 1.0, 0.5))
    documents, queries = ([unit(6, dim, seed + dim) for dim in (8, 5, 12)] for seed in (0, 100))
    ours, theirs = combine(one, documents), combine(one, [2 * vectors for vectors in queries])  # length does not count
    assert ours.shape == (6, 25)
    assert ours.dtype == np.float32
    expected = sum(
        weight / 4.5 * (document @ query.T)
        for weight, document, query in zip(one.weights, documents, queries, strict=True)
    )
    np.testing.assert_allclose(ours @ theirs.T, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


def test_an_average_is_the_normalized_weighted_sum() -> None:
    a, b = unit(5, 7, 1), unit(5, 7, 2)
    expected = 0.75 * a + 0.25 * b
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(combine(ensemble("average", (3.0, 1.0)), [a, b]), expected, atol=1e-6)


def test_a_row_without_a_member_or_a_direction_is_nan() -> None:
    a = unit(3, 4, 1)
    b = np.stack([-a[0], a[1], np.full(4, np.nan, np.float32)])
    with np.errstate(all="raise", invalid="ignore"):
        averaged, joined = (combine(ensemble(method, (1.0, 1.0)), [a, b]) for method in ("average", "concat"))
    assert np.isnan(averaged).any(axis=1).tolist() == [True, False, True]
    assert np.isnan(joined).any(axis=1).tolist() == [False, False, True]
    np.testing.assert_allclose(averaged[1], a[1], atol=1e-6)


def test_dimensions_are_summed_or_must_be_equal() -> None:
    dims = {"dense-a": 8, "dense-b": 6}
    assert ensemble_dim(ensemble("concat", (1.0, 1.0)), dims) == 14
    assert ensemble_dim(ensemble("average", (1.0, 1.0)), dims | {"dense-b": 8}) == 8
    with pytest.raises(UsageError, match=r"dense-a has 8, dense-b has 6.*--truncate-dim"):
        ensemble_dim(ensemble("average", (1.0, 1.0)), dims)


def test_a_projection_leaves_angles_about_as_they_are_and_is_the_same_every_time() -> None:
    matrix = projection(768, 384)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(384), atol=1e-5)
    np.testing.assert_allclose(matrix[0, :3], [0.0095975, -0.06432533, 0.02468395], atol=1e-5)
    documents, queries = unit(50, 768, 1), unit(50, 768, 2)
    queries = 0.7 * documents + 0.7 * queries
    before = documents @ (queries / np.linalg.norm(queries, axis=1, keepdims=True)).T
    ours, theirs = documents @ matrix, queries @ matrix
    after = (ours / np.linalg.norm(ours, axis=1, keepdims=True)) @ (theirs / np.linalg.norm(theirs, axis=1)[:, None]).T
    assert np.abs(before - after).std() < 1 / np.sqrt(384)
    assert not np.array_equal(projection(768, 384, seed=1), matrix)


def test_members_of_an_average_may_differ_where_they_are_projected() -> None:
    one = msgspec.structs.replace(ensemble("average", (2.0, 1.0, 1.0)), project=True)
    long, other, short = unit(4, 12, 1), unit(4, 12, 2), unit(4, 8, 3)
    assert ensemble_dim(one, dict(zip(NAMES, (12, 12, 8), strict=True))) == 8
    matrix = projection(12, 8)
    down = [vectors @ matrix for vectors in (long, other)]
    down = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in down]
    expected = 0.5 * down[0] + 0.25 * down[1] + 0.25 * short
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(combine(one, [long, other, short]), expected, atol=1e-6)
    for vectors in (combine(one, [long[:1], other[:1], short[:1]]), combine(one, [2 * long, other, short])[:1]):
        np.testing.assert_allclose(vectors, expected[:1], atol=1e-6)
    equal = [long, other, unit(4, 12, 3)]
    np.testing.assert_array_equal(combine(one, equal), combine(ensemble("average", (2.0, 1.0, 1.0)), equal))
    long[0] = np.nan
    assert np.isnan(combine(one, [long, other, short])).any(axis=1).tolist() == [True, False, False, False]


@pytest.mark.parametrize("dims", [(12, 8), (768, 384), (1024, 32)])
@pytest.mark.parametrize("method", ["average", "concat"])
def test_a_row_of_an_ensemble_depends_on_its_members_alone(method: Any, dims: tuple[int, int]) -> None:
    """To the last bit: wherever it stands and beside whatever rows, so that equal texts get equal scores, and a query alone
    the scores that it gets among others."""
    one = msgspec.structs.replace(ensemble(method, (2.0, 1.0)), project=method == "average")
    members = [unit(257, dim, dim) for dim in dims]
    for vectors in members:
        vectors[::9] = vectors[0]
    whole = combine(one, members)
    np.testing.assert_array_equal(whole[::9], np.tile(whole[0], (29, 1)))
    for size in (1, 2, 37):
        parts = [combine(one, [vectors[at : at + size] for vectors in members]) for at in range(0, 257, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"members": ("dense-a", "sparse-x")}, "'sparse-x' is no dense vector of this run; it has dense-a, dense-b"),
        ({"members": ("dense-a",), "weights": (1.0,)}, "at least two different"),
        ({"members": ("dense-a", "dense-a")}, "at least two different"),
        ({"weights": (1.0,)}, "1 weights for 2 dense vectors"),
        ({"weights": (1.0, 0.0)}, "above 0"),
        ({"weights": (1.0, float("inf"))}, "above 0"),
    ],
)
def test_an_ensemble_that_cannot_be_made_is_refused(changes: dict[str, Any], why: str) -> None:
    good = ensemble("average", (1.0, 2.0))
    check_ensemble(good, NAMES[:2])
    with pytest.raises(UsageError, match=why):
        check_ensemble(msgspec.structs.replace(good, **changes), NAMES[:2])


def fingerprint(dim: int) -> Fingerprint:
    return Fingerprint(
        model="m", revision="", weights="", dtype="float32", max_tokens=1, prompt="", pooling="", dim=dim,
        normalized=True, versions={},
    )  # fmt: skip


def test_dimensions_are_known_as_far_as_the_models_are() -> None:
    passes = tuple(PassSpec(vector=name, kind="dense", model=name) for name in NAMES[:2])
    spec = RunSpec(source="s", passes=passes, ensembles=(ensemble("concat", (1.0, 1.0)),))
    assert output_dims(spec, {}) == {}
    assert output_dims(spec, {1: fingerprint(6)}) == {"dense-b": 6}
    assert output_dims(spec, {0: fingerprint(8), 1: fingerprint(6)})["ensemble-concat"] == 14


@pytest.mark.parametrize(("dim", "why"), [(12, "--truncate-dim 8 would"), (4, "needs a multiple of 8")])
def test_binary_needs_whole_bytes(dim: int, why: str) -> None:
    one = PassSpec(vector="dense-a", kind="dense", model="a", storage="binary")
    with pytest.raises(UsageError, match=f"dense-a has {dim} dimensions.*{why}"):
        output_dims(RunSpec(source="s", passes=(one,)), {0: fingerprint(dim)})


@pytest.mark.parametrize("method", ["concat", "average"])
@pytest.mark.parametrize(
    "weights", [(8e307, 8e307), (1e-320, 3e-320), (3e38, 3e38), (1.0, 1e-7), (2.0**-24, 1 - 2.0**-24)]
)
def test_weights_that_are_accepted_give_vectors_of_numbers(method: Any, weights: tuple[float, ...]) -> None:
    one = ensemble(method, weights)
    check_ensemble(one, NAMES)
    found = combine(one, [np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[::-1].copy()])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    share = weights[0] / (weights[0] + weights[1])
    expected = np.sqrt(share) if method == "concat" else share / np.hypot(share, 1 - share)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)
