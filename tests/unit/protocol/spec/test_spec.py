"""The run spec: names of vectors, what is refused, and the fields in which two specs differ."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.differences import differences
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec, check_spec, vector_name
from hypothesis import given
from hypothesis import strategies as st

MINILM = PassSpec(vector="dense-a", kind="dense", model="a")
BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")
OTHER = PassSpec(vector="dense-b", kind="dense", model="b", storage="int8")
BOTH = EnsembleSpec(vector="ensemble-concat", method="concat", members=("dense-a", "dense-b"), weights=(1.0, 1.0))
SPEC = RunSpec(source="/corpus.jsonl", passes=(MINILM, BM25))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("BAAI/bge-m3", "dense-bge-m3"),
        ("all-MiniLM-L6-v2", "dense-all-minilm-l6-v2"),
        ("/models/My Model/", "dense-my-model"),
        ("fake:384,delay_ms=5", "dense-fake-384"),
        ("owner/ü", "dense-model"),
        ("x" * 200, "dense-" + "x" * 94),
    ],
)
def test_vectors_are_named_after_their_model(model: str, name: str) -> None:
    assert vector_name("dense", model) == name


def test_sparse_vectors_say_so() -> None:
    assert vector_name("bm25", "bm25") == "sparse-bm25"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_every_name_that_is_made_is_accepted(model: str) -> None:
    one = PassSpec(vector=vector_name("dense", model), kind="dense", model=model)
    check_spec(RunSpec(source="s", passes=(one,)))


@pytest.mark.parametrize("path", ["a\0b", "\0", "x" * 4096, "ü" * 2048])
def test_a_path_that_no_system_can_open_is_refused(path: str) -> None:
    one = PassSpec(vector="dense-a", kind="dense", model="fake:8")
    with pytest.raises(UsageError, match=r"^source"):
        check_spec(RunSpec(source=path, passes=(one,)))
    with pytest.raises(UsageError, match=r"^--dense"):
        check_spec(RunSpec(source="s", passes=(msgspec.structs.replace(one, model=path),)))


def test_an_empty_source_is_not_the_folder_that_a_coordinator_runs_in() -> None:
    with pytest.raises(UsageError, match="source '': is empty"):
        check_spec(msgspec.structs.replace(SPEC, source=""))


def test_a_usable_spec_passes() -> None:
    check_spec(SPEC)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"passes": ()}, "give at least one --dense"),
        ({"passes": (MINILM, MINILM)}, "the vector 'dense-a' would be written twice"),
        ({"limit": 0}, "--limit 0"),
        ({"limit": -1}, "--limit -1"),
        ({"preprocessing": "none"}, "policy 'none' is not known"),
        ({"passes": (msgspec.structs.replace(MINILM, truncate_dim=0),)}, "--truncate-dim 0"),
        ({"passes": (msgspec.structs.replace(BM25, truncate_dim=8),)}, "sparse-bm25: --truncate-dim and --store are"),
        ({"passes": (msgspec.structs.replace(BM25, storage="int8"),)}, "for dense vectors, and this pass has none"),
        ({"ensembles": (BOTH,)}, "'dense-b' is no dense vector of this run; it has dense-a"),
        ({"passes": (MINILM, OTHER), "ensembles": (BOTH, BOTH)}, "'ensemble-concat' would be written twice"),
    ],
)
def test_what_no_run_can_follow_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_spec(msgspec.structs.replace(SPEC, **changes))


@pytest.mark.parametrize("vector", ["", "A", "../up", "a/b", "-a", "a" * 101, "a\n"])
def test_a_vector_name_must_be_a_plain_file_name(vector: str) -> None:
    with pytest.raises(UsageError, match="use lower-case letters"):
        check_spec(RunSpec(source="s", passes=(msgspec.structs.replace(MINILM, vector=vector),)))


def test_max_tokens_must_be_positive() -> None:
    with pytest.raises(UsageError, match="--max-tokens 0"):
        check_spec(RunSpec(source="s", passes=(msgspec.structs.replace(MINILM, max_tokens=0),)))


def test_equal_specs_do_not_differ() -> None:
    assert differences(SPEC, msgspec.structs.replace(SPEC)) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"source": "/other"}, ["source: '/corpus.jsonl' → '/other'"]),
        ({"limit": 5, "index": "none"}, ["limit: None → 5", "index: 'edge' → 'none'"]),
        ({"passes": (MINILM,)}, ["passes: sparse-bm25 is gone"]),
        ({"passes": (BM25, MINILM)}, ["passes: their order"]),
        (
            {"passes": (msgspec.structs.replace(MINILM, dtype="bfloat16", max_tokens=128), BM25)},
            ["dense-a.dtype: 'auto' → 'bfloat16'", "dense-a.max_tokens: None → 128"],
        ),
        (
            {"passes": (msgspec.structs.replace(MINILM, vector="dense-b"), BM25)},
            ["passes: dense-b is new", "passes: dense-a is gone"],
        ),
    ],
)
def test_differences_name_the_field_with_old_and_new(changes: dict[str, Any], found: list[str]) -> None:
    assert differences(msgspec.structs.replace(SPEC, **changes), SPEC) == found


def test_what_only_queries_depend_on_is_no_difference() -> None:
    asked = tuple(msgspec.structs.replace(one, query_prompt="query: ") for one in SPEC.passes)
    assert differences(msgspec.structs.replace(SPEC, passes=asked), SPEC) == []
    both = tuple(msgspec.structs.replace(one, query_prompt="q: ", max_tokens=9) for one in SPEC.passes[:1])
    found = differences(msgspec.structs.replace(SPEC, passes=(*both, *SPEC.passes[1:])), SPEC)
    assert found == [f"{both[0].vector}.max_tokens: None → 9"]


def test_the_outputs_are_those_of_the_passes_and_then_the_ensembles() -> None:
    m3 = PassSpec(vector="heads-bge-m3", kind="bge-m3", model="bge-m3", storage="float16", truncate_dim=8)
    spec = RunSpec(
        source="s", passes=(m3, OTHER), ensembles=(msgspec.structs.replace(BOTH, members=("dense-bge-m3", "dense-b")),)
    )
    check_spec(spec)
    assert [(one.vector, one.form, one.kind, one.storage) for one in spec.outputs] == [
        ("dense-bge-m3", "dense", "bge-m3", "float16"),
        ("sparse-bge-m3", "sparse", "bge-m3", "float32"),
        ("multivector-bge-m3", "multivector", "bge-m3", "float32"),
        ("dense-b", "dense", "dense", "int8"),
        ("ensemble-concat", "dense", "ensemble", "float32"),
    ]
    assert msgspec.json.decode(msgspec.json.encode(spec), type=RunSpec) == spec


def test_a_spec_survives_its_file() -> None:
    spec = RunSpec(source="-", passes=(msgspec.structs.replace(MINILM, prompt="", revision="r"), BM25), limit=3)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=RunSpec) == spec
