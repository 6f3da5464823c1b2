"""What a shell is offered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from embedfleet.client.completion.models import (
    dense_models,
    heads_models,
    known_models,
    multivector_models,
    rerank_models,
    sparse_models,
)
from embedfleet.client.completion.run_directories import run_directories


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("models--some--model", "models--BAAI--bge-m3", "datasets--some--data"):
        (tmp_path / "hub" / name).mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("cached")
def test_models_of_the_catalogue_by_their_flag_and_others_of_the_cache() -> None:
    assert dense_models("bge-s") == ["bge-small-en-v1.5"]
    assert sparse_models("") == [
        "bm25",
        "metadata",
        "opensearch-neural-sparse-encoding-doc-v2-distill",
        "opensearch-neural-sparse-encoding-v2-distill",
        "some/model",
    ]
    assert multivector_models("a") == ["answerai-colbert-small-v1"]
    assert rerank_models("bge-reranker-v") == ["bge-reranker-v2-m3"]
    assert heads_models("") == ["bge-m3", "some/model"]
    assert known_models("ms") == ["ms-marco-MiniLM-L6-v2"]
    assert dense_models("some/") == ["some/model"], "what the catalogue has under a short name is not offered twice"


def test_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    assert dense_models("some/") == []


def test_run_directories_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run-a", "run-b", "other", "deep/run-c"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("run-a", "run-b", "deep/run-c"):
        (tmp_path / name / "spec.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_directories("") == ["run-a", "run-b"]
    assert run_directories("run-b") == ["run-b"]
    assert run_directories("deep/") == ["deep/run-c"]
    assert run_directories(f"{tmp_path}/run") == [f"{tmp_path}/run-a", f"{tmp_path}/run-b"]
    assert run_directories("~/run-a") == ["~/run-a"]
    assert run_directories("oth") == [], "the shell completes paths itself"
    assert run_directories("none/x") == []


def test_a_large_folder_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "spec.json").touch()
    monkeypatch.setattr("embedfleet.client.completion.run_directories.MOST_ENTRIES", 3)
    assert len(run_directories(f"{tmp_path}/")) == 3


SHELL = {"COMP_CWORD": "3", "COMP_WORDS": "embedfleet models pull bge-re"}
HEAVY = {
    "rich",
    "pydantic",
    "numpy",
    "pyarrow",
    "zmq",
    "orjson",
    "psutil",
    "huggingface_hub",
    "torch",
    "shellingham.posix",
}


def test_an_answer_to_bash_imports_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from embedfleet.client.cli.app import main\n"
        "sys.argv = ['embedfleet']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write(json.dumps(sorted(sys.modules)))\n"
    )
    environment = {**os.environ, "_EMBEDFLEET_COMPLETE": "complete_bash", **SHELL}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.stdout.split() == ["bge-reranker-base", "bge-reranker-large", "bge-reranker-v2-m3"]
    assert not HEAVY.intersection(json.loads(done.stderr))
