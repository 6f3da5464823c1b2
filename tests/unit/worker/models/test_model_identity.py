"""The identity of a model has all that decides its numbers, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.protocol.errors import SpecMismatch
from embedfleet.protocol.spec.fingerprint import Fingerprint, changed_files, same_digest
from embedfleet.protocol.wire.model_refusal import PassToCheck
from embedfleet.worker.models.check import check_identity, refusals
from embedfleet.worker.models.identity import identity

from ....model_folders import save
from .test_model_parts import pooled, put, spec_of

PROMPTS = {"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": None, "__version__": {"a": "1"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = pooled(tmp_path / "m")
    put(folder, "config_sentence_transformers.json", PROMPTS)
    put(folder, "sentence_bert_config.json", {"max_seq_length": 128})
    put(folder, "tokenizer_config.json", {"model_max_length": 512})
    put(folder, "special_tokens_map.json", {"pad_token": "[PAD]"})
    put(folder, "code.py", "A = 1")
    return folder


def change(folder: Path, path: str, **fields: Any) -> None:
    settings = json.loads((folder / path).read_text())
    put(folder, path, settings | fields)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("config.json", {"layer_norm_eps": 1e-5}),
        ("config_sentence_transformers.json", {"prompts": {"query": "other: ", "document": ""}}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
        ("sentence_bert_config.json", {"max_seq_length": 64}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("special_tokens_map.json", {"pad_token": "[SEP]"}),
        ("tokenizer.json", {"truncation": None}),
    ],
)
def test_what_decides_the_numbers(folder: Path, path: str, fields: dict[str, Any]) -> None:
    before = identity(folder, own_code=False)
    change(folder, path, **fields)
    assert changed_files(before, identity(folder, own_code=False)) == [path]


@pytest.mark.parametrize("at", [-1, -4 * 64, -4 * 64 - 1, -4 * 160])
def test_weights_by_a_sample_of_every_tensor(folder: Path, at: int) -> None:
    before = identity(folder, own_code=False)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[at] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert changed_files(before, identity(folder, own_code=False)) == ["model.safetensors"]


def test_a_file_more_or_less(folder: Path) -> None:
    before = identity(folder, own_code=False)
    put(folder, "added_tokens.json", {"<x>": 1})
    assert changed_files(before, identity(folder, own_code=False)) == ["added_tokens.json"]
    (folder / "added_tokens.json").unlink()
    (folder / "special_tokens_map.json").unlink()
    assert changed_files(before, identity(folder, own_code=False)) == ["special_tokens_map.json"]


def test_its_own_code_where_that_is_run(folder: Path) -> None:
    before = [identity(folder, own_code=one) for one in (False, True)]
    put(folder, "code.py", "A = 2")
    after = [identity(folder, own_code=one) for one in (False, True)]
    assert [changed_files(*pair) for pair in zip(before, after, strict=True)] == [[], ["code.py"]]


def test_what_does_not_matter(folder: Path) -> None:
    before = identity(folder, own_code=False)
    change(folder, "config.json", _name_or_path="/elsewhere", transformers_version="9", torch_dtype="float16")
    change(folder, "config_sentence_transformers.json", __version__={"a": "2"}, similarity_fn_name="cosine")
    settings = json.loads((folder / "1_Pooling/config.json").read_text())
    put(folder, "1_Pooling/config.json", json.dumps(dict(reversed(settings.items())), indent=4) + "\n")
    put(folder, "README.md", "words")
    for name in ("generation_config.json", "training_config.json", "trainer_state.json", "eval_results.json"):
        put(folder, name, {"a": 1})
    put(folder, "model.safetensors.index.json", "{}")
    for path in ("onnx/config.json", "checkpoint-5/config.json", "2_Dense/config.json"):
        put(folder, path, {})
    put(folder, "checkpoint-5/model.safetensors", b"torn")
    (folder / "model.safetensors").touch()
    assert changed_files(before, identity(folder, own_code=False)) == []


def test_one_side_without_digests_is_not_compared() -> None:
    assert changed_files({}, {"a": "1"}) == changed_files({"a": "1"}, {}) == []


def fingerprint(**fields: Any) -> Fingerprint:
    common: dict[str, Any] = {"model": "m", "revision": "", "weights": "w", "dtype": "float32", "max_tokens": 8}
    common |= {"prompt": "", "pooling": "p", "dim": 4, "normalized": True, "versions": {}}
    return Fingerprint(**common | fields)


def test_fingerprints_differ_by_their_files() -> None:
    ours, theirs = fingerprint(files={"a": "1", "b": "1"}), fingerprint(files={"a": "2", "b": "1"})
    assert ours.differences(theirs) == ["changed files: a"]
    assert ours.differences(fingerprint()) == []
    assert ours.differences(msgspec.structs.replace(ours, similarity="dot")) == []
    assert fingerprint(weights="new", weights_before="w").differences(fingerprint()) == []
    assert fingerprint(weights="new", weights_before="x").differences(fingerprint()) == ["weights: 'w' → 'new'"]
    assert fingerprint(weights="new").differences(fingerprint(weights="")) != []


def test_digests_of_earlier_runs_are_as_they_were() -> None:
    old = fingerprint()
    assert old.digest() == "544c49364e036a68", "as 0.1.0 made it"
    new = fingerprint(files={"a": "1"})
    assert new.digest().startswith(f"{old.digest()}.")
    assert same_digest(old.digest(), new.digest())
    assert same_digest(new.digest(), old.digest())
    assert not same_digest(new.digest(), fingerprint(files={"a": "2"}).digest())
    assert not same_digest(old.digest(), fingerprint(pooling="q", files={"a": "1"}).digest())


def test_a_whole_pass_is_refused_only_for_a_model_that_is_there_and_changed(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    asked = PassToCheck(**msgspec.structs.asdict(spec_of(folder)), files=identity(folder, own_code=False), whole=True)
    assert refusals([asked]) == []
    change(folder, "config.json", layer_norm_eps=1e-5)
    (found,) = refusals([asked])
    assert found.kind == SpecMismatch.__name__
    assert f"config.json in {folder}" in found.message
    assert "--restart" in found.message
    with pytest.raises(SpecMismatch, match=r"has changed since the vectors of v were computed"):
        check_identity(asked, asked.files)
    (folder / "model.safetensors").write_bytes(b"torn")
    assert refusals([asked]) == []
    assert refusals([msgspec.structs.replace(asked, model="gone/away")]) == []
    assert refusals([msgspec.structs.replace(asked, model="gone for good")]) == []
