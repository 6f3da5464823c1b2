"""`python -m embedfleet.worker.models.check` as a process, with the test as its hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.protocol.spec.run_spec import PassSpec

from ..model_folders import save
from ..model_hub import Hub, serving

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with the repositories of `model_hub.FILES` and the revision `main`."""
    with serving() as given:
        yield given


def check(passes: list[PassSpec], home: Path, endpoint: str, code: int, **more: str) -> list[dict[str, str]]:
    """The lines that come back; the process has to end with `code`."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    for name in ("HF_HUB_CACHE", "HF_TOKEN"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "embedfleet.worker.models.check"]
    done = subprocess.run(
        command, input=msgspec.json.encode(passes), capture_output=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def dense(model: str, **options: Any) -> PassSpec:
    return PassSpec(vector=f"dense-{model.rsplit('/', 1)[-1]}", kind="dense", model=model, **options)


REFUSED = [
    ("good/nothing", None, "the hub has no such repository"),
    ("good/model", "v9", "the hub has no revision 'v9'; give a branch, tag or commit that it has"),
    ("good/pickled", None, "no safetensors weights. Pickled weights"),
    ("good/code", None, "auto_map in config.json"),
    ("good/tokenizer-code", None, "auto_map in tokenizer_config.json"),
    ("good/module", None, "2_Dense/pytorch_model.bin"),
    ("good/no-pooling", None, "the module Pooling in 1_Pooling"),
    ("good/dot", None, "give --normalize"),
    ("good/adapter", None, "is an adapter (LORA) for good/model"),
    ("good/empty", None, "the repository has no config.json"),
    ("good/damaged", None, "config.json is not a JSON object"),
]


def test_what_the_hub_says_is_refused_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    found = check([dense(model, revision=revision) for model, revision, _ in REFUSED], tmp_path, hub.url, 2)
    assert len(found) == len(REFUSED)
    for one, (model, _, words) in zip(found, REFUSED, strict=True):
        assert (one["vector"], one["kind"]) == (dense(model).vector, "ModelError")
        assert words in one["message"]
        assert model in one["message"]
    assert not any("safetensors" in one for one in hub.asked)


def test_a_good_model_of_the_hub_passes_and_its_weights_are_not_fetched(hub: Hub, tmp_path: Path) -> None:
    passes = [dense("good/model"), dense("good/static"), dense("good/dot", normalize=True)]
    passes += [dense("good/model", revision="main"), dense("good/code", trust_remote_code=True)]
    assert check(passes, tmp_path, hub.url, 0) == []
    assert hub.asked
    assert not any("safetensors" in one for one in hub.asked)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_hub_out_of_reach(tmp_path: Path, offline: str) -> None:
    start = time.monotonic()
    (found,) = check([dense("good/model")], tmp_path, "http://127.0.0.1:9", 2, HF_HUB_OFFLINE=offline)
    assert time.monotonic() - start < 30
    assert "not in the hub's cache, and the hub cannot be reached" in found["message"]
    assert "embedfleet models pull good/model" in found["message"]


def test_each_refused_pass_has_a_line_and_the_others_none(tmp_path: Path) -> None:
    good, bad = save(tmp_path / "good"), save(tmp_path / "bad")
    (bad / "model.safetensors").write_bytes(b"torn")
    passes = [dense(str(good)), dense(str(bad)), dense("fake:8"), dense("no such alias")]
    found = check(passes, tmp_path, "http://127.0.0.1:9", 2)
    assert [one["vector"] for one in found] == ["dense-bad", "dense-no such alias"]
    assert all(one.keys() == {"vector", "kind", "message"} for one in found)


def test_what_is_no_list_of_passes() -> None:
    command = [sys.executable, "-m", "embedfleet.worker.models.check"]
    for given in (b"", b"{}", b"[1]", b"[" * 100_000):
        done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(b"standard input is no JSON array of passes")
        assert done.stdout == b""


def test_it_is_light_and_quick(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    code = """if True:
        import json, sys, time
        start = time.monotonic()
        from embedfleet.protocol.spec.run_spec import PassSpec
        from embedfleet.worker.models.check import refusals
        found = refusals([PassSpec(vector="v", kind="dense", model=one) for one in sys.argv[1:]])
        seconds = time.monotonic() - start
        print(json.dumps([len(found), seconds, [one for one in sys.modules if "." not in one]]))
    """
    command = [sys.executable, "-c", code, str(folder), "all-MiniLM-L6-v2"]
    done = subprocess.run(
        command, capture_output=True, timeout=60, check=True, env={**os.environ, "HF_HOME": str(tmp_path)}
    )
    _, seconds, loaded = json.loads(done.stdout)
    assert seconds < 1
    assert not {"torch", "transformers", "tokenizers", "sentence_transformers"} & set(loaded)
