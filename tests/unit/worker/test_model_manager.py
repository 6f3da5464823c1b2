"""What a failed load is told as: an error that would come again is one message, one of the device ends the process."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.work import Broken, Ready
from embedfleet.worker import model_manager
from embedfleet.worker.device.memory import DeviceMemory, Starved
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.encoders.fake import FakeEncoder
from embedfleet.worker.model_manager import ModelManager
from embedfleet.worker.models.kind_check import architectures, saved_modules

SPEC = PassSpec(vector="v", kind="dense", model="fake:8")
AGAIN = [
    (KeyError("model_type"), "KeyError: 'model_type'"),
    (RuntimeError("size mismatch for weight\n\tand more"), "RuntimeError: size mismatch for weight"),
    (OSError("no file named x"), "OSError: no file named x"),
]


def manager() -> ModelManager:
    return ModelManager("cpu", 1, DeviceMemory("cpu", ""))


def raising(error: BaseException) -> Any:
    def work(*_: Any) -> None:
        raise error

    return work


@pytest.mark.parametrize(("error", "told"), AGAIN)
def test_a_load_that_would_fail_again_is_one_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr(model_manager, "load_encoder", raising(error))
    assert manager().stage(SPEC) == Broken("ModelError", f"model fake:8 cannot be loaded: {told}", fatal=True)


@pytest.mark.parametrize(("error", "told"), AGAIN)
def test_so_is_a_first_text_that_would_fail_again(monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    ours = manager()
    ours.stage(SPEC)
    monkeypatch.setattr(FakeEncoder, "hydrate", raising(error))
    assert ours.hydrate() == Broken("ModelError", f"model fake:8 cannot compute a first text: {told}", fatal=True)


@pytest.mark.parametrize("error", [MemoryError("8 GiB"), OutOfMemory("8 GiB")])
def test_memory_may_be_there_another_time(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    ours = manager()
    ours.stage(SPEC)
    monkeypatch.setattr(FakeEncoder, "hydrate", raising(error))
    found = ours.hydrate()
    assert isinstance(found, Broken)
    assert not found.fatal
    monkeypatch.setattr(model_manager, "load_encoder", raising(MemoryError("8 GiB")))
    assert manager().stage(SPEC) == Starved("model fake:8: no host memory to load it (8 GiB)")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "cuBLAS failure 13 of cublasLtMatmul",
        "NCCL error in: ProcessGroupNCCL.cpp:1333, unhandled system error",
        "no kernel image is available for execution on the device",
    ],
)
def test_an_error_of_the_device_ends_the_process(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    error = RuntimeError(message)
    ours = manager()
    ours.stage(SPEC)
    monkeypatch.setattr(FakeEncoder, "hydrate", raising(error))
    with pytest.raises(RuntimeError, match=message[:12]):
        ours.hydrate()
    monkeypatch.setattr(model_manager, "load_encoder", raising(error))
    with pytest.raises(RuntimeError, match=message[:12]):
        manager().stage(SPEC)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[3]", '[{"path": ""}]', "null"])
def test_a_modules_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"modules\.json (is not JSON|is not a list of modules|has a module without a type)"
    ):
        saved_modules(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_config_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json (is not JSON|is not a JSON object)"):
        architectures(tmp_path)


@pytest.mark.parametrize(("most", "streams", "each"), [(1, 1, 4), (2, 2, 2), (16, 4, 1)])
def test_a_processors_threads_are_divided_among_the_streams(
    monkeypatch: pytest.MonkeyPatch, most: int, streams: int, each: int
) -> None:
    chosen: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=chosen.append))
    monkeypatch.setattr(FakeEncoder, "most_streams", most)
    ours = ModelManager("cpu", 4, DeviceMemory("cpu", ""))
    ours.stage(SPEC)
    assert isinstance(ours.hydrate(), Ready)
    assert (ours.streams, chosen) == (streams, [each])
