"""Ten faults of a host, each planted where it is measured; doctor names each, and how it is mended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest
from embedfleet.client.doctor.cached_models import (
    LocalModel,
    apply_refusals,
    checks_for,
    list_local,
    model_findings,
    offline_findings,
)
from embedfleet.client.doctor.cores import core_findings
from embedfleet.client.doctor.disks import Disk, disk_findings, measure_disks
from embedfleet.client.doctor.finding import GB, Finding
from embedfleet.client.doctor.gpus import Gpu, Gpus, gpu_findings, measure_gpus
from embedfleet.client.doctor.hub import Hub, hub_findings
from embedfleet.client.doctor.libraries import Library, library_findings, measure_libraries
from embedfleet.client.doctor.memory import Memory, memory_findings
from embedfleet.client.doctor.model_checks import ModelChecks
from embedfleet.client.doctor.run_folder import measure_run, run_findings
from embedfleet.client.doctor.torch_build import measure_torch, torch_findings
from embedfleet.protocol.host.free_cores import find_free_cores
from embedfleet.protocol.run_directory.directory_lock import Holder, drop_lock, take_lock
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

from ....model_folders import save, without


def only(findings: list[Finding], name: str) -> Finding:
    """The one finding of that name."""
    (found,) = (one for one in findings if one.name == name)
    return found


def spec_only(folder: Path, model: str) -> None:
    """A run directory of which nothing but the spec was written, with a pass dense-x."""
    folder.mkdir()
    passes = (PassSpec(vector="dense-x", kind="dense", model=model),)
    (folder / "spec.json").write_bytes(msgspec.json.encode(RunSpec(source="/corpus.jsonl", passes=passes)))


class FakeNvml(ModuleType):
    """One GPU of 80 GB."""

    class NVMLError(Exception):
        pass

    def __init__(self, free: int = 70 * GB, users: tuple[int, ...] = (), cuda: int = 12_020, broken: str = "") -> None:
        super().__init__("pynvml")
        self._free, self._users, self._cuda, self._broken = free, users, cuda, broken

    def nvmlInit(self) -> None:
        if self._broken:
            raise self.NVMLError(self._broken)

    def nvmlShutdown(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, _handle: int) -> str:
        return "Fake GPU"

    def nvmlDeviceGetUUID(self, _handle: int) -> str:
        return "GPU-fake"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "535.1"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return self._cuda

    def nvmlDeviceGetMemoryInfo(self, _handle: int) -> Any:
        return SimpleNamespace(total=80 * GB, free=self._free)

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=5 * GB) for pid in self._users]


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """A bus with an NVIDIA GPU, its sound device, and another vendor's GPU."""
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"), ("c", "0x1002", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    return tmp_path


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_1_no_driver(bus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(broken="NVML Shared Library Not Found"))
    found = only(gpu_findings(measure_gpus(bus)), "no-driver")
    assert found.level == "problem"
    assert "1 NVIDIA GPU on the bus, but no driver answers (NVML Shared Library Not Found)" in found.text
    assert "docker run --gpus all" in found.remedy


def test_2_a_foreign_process_on_the_gpu(bus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "embedfleet.worker"], stdin=subprocess.DEVNULL
    )
    try:
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(users=(os.getpid(), worker.pid, 1 << 30)))
        findings = gpu_findings(measure_gpus(bus))
    finally:
        worker.kill()
        worker.wait()
    found = only(findings, "gpu-shared")
    assert found.level == "note"
    assert f"process {os.getpid()} (" in found.text
    assert "5.0 GB)" in found.text
    assert f"process {1 << 30} (not visible from here, 5.0 GB)" in found.text
    assert str(worker.pid) not in found.text, "it is embedfleet's own"
    assert "1 worker of embedfleet" in only(findings, "gpu").text
    assert "--devices" in found.remedy


@pytest.mark.parametrize(
    ("findings", "name"),
    [
        (gpu_findings(Gpus(gpus=(Gpu("Fake GPU (cuda:0)", total=80 * GB, free=GB),))), "gpu-memory"),
        (memory_findings(Memory(GB, 64 * GB)), "memory-short"),
        (disk_findings(Disk("output", "/data", GB, 500 * GB)), "disk-full"),
        (disk_findings(Disk("models", "/cache", GB, 500 * GB)), "disk-full"),
    ],
)
def test_3_one_gigabyte_free(findings: list[Finding], name: str) -> None:
    found = only(findings, name)
    assert "1.0 GB of" in found.text
    assert found.level == ("note" if "/cache" in found.text else "problem"), "a run may need no other model"
    assert found.remedy


def test_4_a_stale_lock(tmp_path: Path) -> None:
    spec_only(tmp_path / "run", "fake:8")
    lock = tmp_path / "run" / ".lock"
    host = os.uname().nodename
    lock.write_bytes(msgspec.json.encode(Holder(pid=4_000_000, parent=1, host=host, since=1_700_000_000.0)))
    run, _ = measure_run(tmp_path / "run")
    found = only(run_findings(run, {}, Hub("hub")), "stale-lock")
    assert f"{lock} is stale: it names process 4000000 on {host}" in found.text
    assert "run the same command again" in found.remedy
    lock.write_bytes(msgspec.json.encode(Holder(pid=7, parent=1, host="elsewhere", since=0.0)))
    run, _ = measure_run(tmp_path / "run")
    assert "elsewhere" in only(run_findings(run, {}, Hub("hub")), "lock-elsewhere").remedy
    lock.write_bytes(b"")
    run, _ = measure_run(tmp_path / "run")
    assert [one.name for one in run_findings(run, {}, Hub("hub"))] == ["run"], "a lock that was given back is empty"


def test_4_a_stale_lock_of_shards(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    lock = tmp_path / "shards" / ".lock"
    lock.write_bytes(msgspec.json.encode(Holder(pid=4_000_000, host=os.uname().nodename, since=1_700_000_000.0)))

    def found() -> list[Finding]:
        return run_findings(measure_run(tmp_path)[0], {}, Hub("hub"))

    stale, run = found()
    assert (stale.name, stale.text.startswith(f"{lock} is stale: it names process 4000000 on ")) == ("stale-lock", True)
    assert (run.level, run.text) == ("ok", f"{tmp_path}: a run can be made there")
    passes = (PassSpec(vector="dense-x", kind="dense", model="fake:8"),)
    spec = RunSpec(source="/corpus.jsonl", passes=passes)
    (tmp_path / "shards.json").write_bytes(msgspec.json.encode(ShardsRecord(shards=2, spec=spec, files=())))
    stale, run = found()
    assert (stale.name, run.level) == ("stale-lock", "ok")
    command = f"embedfleet run /corpus.jsonl --out {tmp_path} --shard 0/2, with the flags of the other shards"
    assert run.text == f"{tmp_path}: 0 of 2 shards done; not begun: 0-1; next: {command}"
    held = take_lock(RunLayout(tmp_path / "shards"), "here")
    locked, run = found()
    drop_lock(held)
    assert (locked.name, run.text.endswith("; a process runs them now")) == ("run-locked", True)


def test_5_torch_built_for_another_cuda(tmp_path: Path, bus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    (package / "version.py").write_text(
        "from typing import Optional\n__version__ = '2.9.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(cuda=12_020))
    gpus, torch = measure_gpus(bus), measure_torch()
    found = only(torch_findings(torch, gpus), "torch-cuda-version")
    assert found.level == "problem"
    assert "torch 2.9.0+cu130 is built for CUDA 13.0, and the driver 535.1 runs CUDA 12.2 at most" in found.text
    assert "built for CUDA 12" in found.remedy
    (package / "version.py").write_text("__version__ = '2.9.0+cu126'\ncuda: Optional[str] = '12.6'\n")
    assert only(torch_findings(measure_torch(), gpus), "torch").level == "ok", (
        "within a major version any driver will do"
    )
    (package / "version.py").write_text("__version__ = '2.9.0+cpu'\ncuda: Optional[str] = None\n")
    assert "is built for CPUs" in only(torch_findings(measure_torch(), gpus), "torch-without-cuda").text


def test_6_no_tokenizer_in_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    for name, spoil in (("BAAI/bge-small-en-v1.5", without("tokenizer.json")), ("some/good", lambda _folder: None)):
        model = tmp_path / f"models--{name.replace('/', '--')}"
        spoil(save(model / "snapshots" / ("a" * 40)))
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text("a" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    local = [one for one in list_local() if one.bytes]
    refused, trouble = ModelChecks(checks_for(local)).result()
    assert trouble == ""
    broken, good = apply_refusals(local, refused)
    found = only(model_findings(broken), "model-unusable")
    assert found.level == "problem"
    assert "BAAI/bge-small-en-v1.5" in found.text
    assert "has no tokenizer" in found.text
    assert "embedfleet models pull BAAI/bge-small-en-v1.5" in found.remedy
    assert "usable with --dense" in only(model_findings(good), "model").text


def test_7_offline_without_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = Hub("hub", offline="HF_HUB_OFFLINE=1")
    found = only(offline_findings([LocalModel("a/b", has_weights=False)], offline), "no-model-offline")
    assert found.level == "problem"
    assert "embedfleet models pull MODEL" in found.remedy
    assert offline_findings([LocalModel("a/b", flags=("--dense",))], offline) == []

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    spec_only(tmp_path / "run", "some/model")
    run, (check,) = measure_run(tmp_path / "run")
    refused = {check.vector: "--dense: model some/model: not in the hub's cache"}
    found = only(run_findings(run, refused, offline), "run-model-offline")
    assert found.level == "problem"
    assert "dense-x needs some/model, which is not on this host, and offline by HF_HUB_OFFLINE=1" in found.text
    assert only(run_findings(run, refused, Hub("hub")), "run-model").level == "ok", "the run fetches it"


def test_8_read_only_output(tmp_path: Path) -> None:
    """In /sys nobody can make a file, not even root."""
    (found,) = [one for one in measure_disks(Path("/sys/new/run")) if one.use == "output"]
    judged = only(disk_findings(found), "read-only")
    assert judged.level == "problem"
    assert "/sys/new/run (run directories) cannot be written to: " in judged.text
    assert "--out" in judged.remedy
    (tmp_path / "file").touch()
    (found,) = [one for one in measure_disks(tmp_path / "file") if one.use == "output"]
    assert f"{tmp_path}/file is a file" in only(disk_findings(found), "read-only").text
    (found,) = [one for one in measure_disks(tmp_path / "new" / "run") if one.use == "output"]
    assert found.refused == ""
    assert [one.name for one in tmp_path.iterdir()] == ["file"], "nothing is left of the test"


def test_9_a_cgroup_limit_of_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    proc, group = tmp_path / "proc" / "self", tmp_path / "cgroup"
    proc.mkdir(parents=True)
    group.mkdir()
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text(f"31 23 0:28 / {group} rw,relatime shared:9 - cgroup2 cgroup2 rw\n")
    (group / "cpu.max").write_text("100000 100000\n")
    findings = core_findings(find_free_cores(proc=tmp_path / "proc"))
    found = only(findings, "core-quota")
    assert "8 cores, but a cgroup's quota allows the time of 1" in found.text
    assert "docker run --cpus" in found.remedy
    assert "1 thread can compute at the same time, of 8 cores" in only(findings, "cores").text


def test_10_an_old_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "numpy-1.26.4.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = only(library_findings(measure_libraries()), "library-version")
    assert found.level == "problem"
    assert found.text == "numpy 1.26.4 is installed; embedfleet needs at least 2.0"
    assert found.remedy == "pip install 'numpy>=2.0'"


def test_versions_are_compared_as_numbers() -> None:
    for installed, wanted, fits in (
        ("2.0", "2.0.0", True),
        ("10.1", "9.9", True),
        ("2.6.0+cpu", "2.6", True),
        ("1.9", "1.10", False),
    ):
        assert Library("x", installed, wanted).fits == fits, (installed, wanted)
    assert Library("x", "0.9.0", "0.9.0", exact=True).fits
    assert not Library("x", "0.9.1", "0.9.0", exact=True).fits


def test_a_library_or_an_extra_that_is_not_there() -> None:
    libraries = (
        Library("msgspec", "", "0.19"),
        Library("torch", "", "2.6", extra="torch"),
        Library("x", "", extra="otel"),
    )
    findings = library_findings(libraries)
    assert [(one.level, one.name) for one in findings] == [
        ("problem", "library-missing"),
        ("note", "extra-missing"),
        ("ok", "extras"),
    ]
    assert findings[0].remedy == "pip install 'msgspec>=0.19'"
    assert findings[1].remedy == "pip install 'embedfleet[torch]'"


def test_a_hub_out_of_reach_is_a_note() -> None:
    found = only(hub_findings(Hub("https://hub", refused="ConnectError: no route")), "hub-unreachable")
    assert (found.level, "ConnectError: no route" in found.text) == ("note", True)
    assert "HF_HUB_OFFLINE=1" in found.remedy


def test_a_driver_that_hangs(bus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    hang, nvml = threading.Event(), FakeNvml()
    nvml.nvmlInit = hang.wait  # type: ignore[method-assign,assignment]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = only(gpu_findings(measure_gpus(bus, seconds=0.05)), "driver-hangs")
    hang.set()
    assert found.level == "problem"


def test_a_model_that_is_only_in_part_in_the_cache() -> None:
    part = only(model_findings(LocalModel("a/b", 5, has_weights=False)), "model-incomplete")
    assert (part.level, part.remedy) == ("note", "fetch the rest: embedfleet models pull a/b")
    other = only(model_findings(LocalModel("a/b", 5, has_weights=False, has_main=False)), "model-revisions")
    assert (other.level, "a/b@REVISION" in other.text) == ("ok", True)
