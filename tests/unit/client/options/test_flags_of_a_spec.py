"""The flags of a spec make that spec again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.options.embedder_options import spec_options
from embedfleet.client.options.spec_builder import build_spec
from embedfleet.client.options.spec_flags import MODELS, model_argument, spec_flags
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

SPECS: tuple[dict[str, Any], ...] = (
    {"dense": ["fake:8"]},
    {"dense": ["old=/x/m", "org/new@r1"], "sparse": ["terms=bm25", "fake:50"], "max_active_dims": 9, "fallback": False},
    {
        "sparse": ["bm25", "fake:50"],
        "dense": ["fake:8"],
        "heads": ["bge-m3"],
        "multivector": ["fake:4"],
        "pool_factor": 2,
    },
    {"dense": ["fake:8", "fake:16"], "ensemble": ["concat", "average"], "weights": "2,0.5", "project": True},
    {"dense": ["fake:8", "fake:9"], "ensemble": ["concat"], "storage": "int8", "truncate_dim": 4, "normalize": True},
    {"dense": ["fake:8"], "prompt": "d: ", "query_prompt": "q: ", "max_tokens": 9, "dtype": "float16"},
    {"dense": ["fake:8"], "text_field": "a.b", "id_field": "none", "title_field": "t", "limit": 3, "index": "none"},
    {"dense": ["fake:8"], "trust_remote_code": True},
)


def build(source: str = "-", **flags: Any) -> RunSpec:
    return build_spec(source, **({name: [] for name in MODELS} | flags))


@pytest.mark.parametrize("flags", SPECS, ids=lambda flags: "-".join(flags))
def test_they_make_it_again(flags: dict[str, Any]) -> None:
    spec = build(**flags)
    found = spec_flags(spec)
    models = {name: found.pop(name) for name in MODELS if name in found}
    assert build(found.pop("source"), **models, **spec_options(found)) == spec
    assert models == {name: values for name, values in flags.items() if name in MODELS} | renamed(models)


def renamed(models: dict[str, list[str]]) -> dict[str, list[str]]:
    """Models that are typed with a name are named with the whole name of the vector."""
    return {name: values for name, values in models.items() if any("=" in one for one in values)}


def test_a_folder_keeps_its_vectors_name_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Model").mkdir()
    monkeypatch.chdir(tmp_path)
    (one,) = build(dense=["./Model"]).passes
    assert model_argument(one) == str(tmp_path / "Model")
    (one,) = build(dense=["."]).passes
    assert model_argument(one) == f"dense-model={tmp_path}"


def test_a_spec_of_an_older_policy_and_without_its_source_has_flags() -> None:
    old = RunSpec(source="/gone/c.jsonl", passes=(PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),))
    assert spec_flags(old) == {"source": "/gone/c.jsonl", "dense": ["fake:8"]}


def test_a_spec_that_no_flags_make_is_refused() -> None:
    spec = build(dense=["fake:8", "fake:9"])
    for change, why in (
        ({"max_tokens": 5}, r"no flags make this spec .*dense-fake-8\.max_tokens: None → 5.*submit it in Python"),
        ({"query_prompt": "q"}, "its passes differ in query_prompt or normalize"),
        ({"side": "query"}, r"the queries or pairs of a ranking; give spec\.json of the run itself"),
    ):
        other = msgspec.structs.replace(spec.passes[1], **change)
        with pytest.raises(UsageError, match=why):
            spec_flags(msgspec.structs.replace(spec, passes=(spec.passes[0], other)))
