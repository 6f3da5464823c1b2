"""`embedfleet doctor` in a world with several faults, planted in what it looks at: packages, the driver, the cache, a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from embedfleet.protocol.run_directory.directory_lock import Holder
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

from ..model_folders import save, without
from ..model_hub import serving

pytest.importorskip("huggingface_hub")

NVML = """
class NVMLError(Exception):
    pass
class Memory:
    total, free = 80_000_000_000, 1_000_000_000
class Process:
    pid, usedGpuMemory = {pid}, 79_000_000_000
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 1
nvmlSystemGetCudaDriverVersion = lambda: 12020
nvmlSystemGetDriverVersion = lambda: "535.1"
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetName = lambda handle: "Fake GPU"
nvmlDeviceGetUUID = lambda handle: "GPU-fake"
nvmlDeviceGetMemoryInfo = lambda handle: Memory
nvmlDeviceGetComputeRunningProcesses = lambda handle: [Process]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty cache of the hub, which may not be asked."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def faults(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory in a world where seven things are wrong."""
    site, run = place / "site", place / "run"
    (site / "torch").mkdir(parents=True)
    (site / "torch" / "__init__.py").touch()
    (site / "torch" / "version.py").write_text("__version__ = '2.9.0+cu130'\ncuda: Optional[str] = '13.0'\n")
    (site / "pynvml.py").write_text(NVML.format(pid=os.getpid()))
    (site / "numpy-1.26.4.dist-info").mkdir()
    (site / "numpy-1.26.4.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    model = place / "home" / "hub" / "models--BAAI--bge-small-en-v1.5"
    without("tokenizer.json")(save(model / "snapshots" / ("a" * 40)))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    run.mkdir()
    passes = (PassSpec(vector="dense-x", kind="dense", model="some/model"),)
    (run / "spec.json").write_bytes(msgspec.json.encode(RunSpec(source="/corpus.jsonl", passes=passes)))
    holder = Holder(pid=4_000_000, parent=1, host=os.uname().nodename, since=1_700_000_000.0)
    (run / ".lock").write_bytes(msgspec.json.encode(holder))
    return run


def test_each_fault_is_named_with_its_remedy(faults: Path) -> None:
    """Started as a user does: the packages that are planted have to be there from the start."""
    command = [Path(sys.executable).with_name("embedfleet"), "doctor", faults, "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    found = json.loads(done.stdout)
    named = {one["name"]: one for one in found["findings"] if one["level"] != "ok"}
    assert {
        *("gpu-shared", "gpu-memory", "stale-lock", "torch-cuda-version", "model-unusable", "run-model-offline"),
        "library-version",
    } <= named.keys()
    assert f"process {os.getpid()} (" in named["gpu-shared"]["text"]
    assert "has no tokenizer" in named["model-unusable"]["text"]
    assert "dense-x needs some/model" in named["run-model-offline"]["text"]
    assert "numpy 1.26.4" in named["library-version"]["text"]
    assert all(one["remedy"] for one in named.values())
    assert (found["ok"], found["problems"]) == (False, sum(one["level"] == "problem" for one in named.values()))
    assert found["facts"]["gpus"]["gpus"][0]["uuid"] == "GPU-fake"


def test_an_output_that_cannot_be_written_in_words_for_people(cli: Any, place: Path) -> None:
    done = cli("doctor", "/sys/new/run", code=1, cwd=place)
    said = " ".join(done.out.decode().split())
    assert "problem disk /sys/new/run (run directories) cannot be written to: " in said
    assert "→ see to the right to write there, or write elsewhere with --out" in said
    assert "problem" in done.out.decode().splitlines()[-1]
    assert done.err == ""
    assert list(place.iterdir()) == [], "it changes nothing"


def test_a_hub_that_answers_and_no_folder(cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = cli("doctor", "--json", code=ANY, cwd=place)
        found = done.json
        answers = {one["name"]: one["text"] for one in found["findings"] if one["topic"] == "hub"}
        assert answers == {"hub": f"{hub.url} answers"}
    assert done.code == (0 if found["ok"] else 1)
    assert found["facts"]["run"] is None
    assert {"python", "libraries", "cores", "processor", "memory", "disk", "hub"} <= {
        one["name"] if one["topic"] != "disk" else "disk" for one in found["findings"]
    }
