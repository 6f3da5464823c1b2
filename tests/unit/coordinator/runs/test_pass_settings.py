"""What a pass is computed with is settled once: by an earlier session, else by its first worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from embedfleet.coordinator.runs.pass_settings import PassSettings
from embedfleet.coordinator.runs.planner import batch_sizes
from embedfleet.protocol.errors import SpecMismatch
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.vectors.metadata_terms import METADATA_WEIGHTS
from embedfleet.protocol.wire.devices import Device
from embedfleet.protocol.wire.run_options import DEFAULTS

SPEC = RunSpec(
    source="/s",
    passes=(
        PassSpec(vector="dense-a", kind="dense", model="model-a"),
        PassSpec(vector="sparse-bm25", kind="bm25", model="bm25"),
        PassSpec(vector="sparse-metadata", kind="metadata", model="metadata"),
    ),
)
CPU = Device(uuid="cpu-0", kind="cpu", name="a CPU", memory=1 << 30, threads=4)
LOADED = Fingerprint(
    model="model-a", revision="", weights="w", dtype="float32", max_tokens=512, prompt="", pooling="mean", dim=8,
    normalized=True, versions={},
)  # fmt: skip


@pytest.fixture
def telemetry() -> Any:
    return Mock()


@pytest.fixture
def settings(tmp_path: Path, telemetry: Any) -> PassSettings:
    return PassSettings("r", SPEC, RunLayout(tmp_path), DEFAULTS, telemetry, Mock())


def test_every_worker_loads_what_the_first_one_did_whoever_joins(settings: PassSettings) -> None:
    first = settings.stage(0, [CPU])
    assert first.dtype == "float32"
    gpu = Device(uuid="gpu-0", kind="cuda", name="a GPU", memory=1 << 30, threads=1, capability=(9, 0))
    assert settings.stage(0, [gpu]) is first


def test_the_first_worker_says_what_comes_out_of_it(settings: PassSettings) -> None:
    assert settings.max_tokens(0) == 0
    settings.staged(0, LOADED, 4_096, 32)
    settings.staged(0, LOADED, 64, 32)
    settings.hydrated(0, fixed_batches=False)
    settings.hydrated(0, fixed_batches=True)
    assert settings.sizes(0) == batch_sizes(SPEC.passes[0], 4_096, 32, fixed=False)
    assert settings.max_tokens(0) == 512
    assert settings.fingerprint(0) is LOADED
    ((output, dim),) = settings.outputs(0)
    assert (output.vector, dim) == ("dense-a", 8)


def test_another_model_than_before_is_refused(settings: PassSettings) -> None:
    settings.resume((LOADED, None, None))
    with pytest.raises(SpecMismatch, match=r"dense-a: this model is not the one .*--restart starts over"):
        settings.staged(0, msgspec.structs.replace(LOADED, weights="x"), 4_096, 32)


def test_what_is_assumed_of_a_model_is_noted_once(settings: PassSettings, telemetry: Any) -> None:
    assumed = msgspec.structs.replace(LOADED, assumed="mean pooling")
    for _ in range(2):
        settings.staged(0, assumed, 4_096, 32)
    telemetry.event.assert_called_once_with("model_assumed", vector="dense-a", what="mean pooling")


def test_bm25_is_staged_with_the_length_that_its_segments_were_computed_with(
    settings: PassSettings, telemetry: Any
) -> None:
    before = msgspec.structs.replace(LOADED, model="bm25", settings={"average_length": 9.5})
    settings.resume((None, before, None))
    assert settings.stage(1, [CPU]).average_length == 9.5
    telemetry.event.assert_called_once_with("bm25_fitted", vector="sparse-bm25", average_length=9.5)


def test_a_pass_that_no_worker_computes_has_the_weights_of_its_metadata(settings: PassSettings) -> None:
    assert settings.fingerprint(2).weights == ""
    assert settings.fingerprint(2).pooling == METADATA_WEIGHTS


def test_the_tokens_of_a_pass_are_divided_among_the_devices(tmp_path: Path, telemetry: Any) -> None:
    options = msgspec.structs.replace(DEFAULTS, expected_tokens=900)
    helper = msgspec.structs.replace(CPU, uuid="helper", auxiliary=True)
    for devices, expected in (([CPU], 900), ([CPU, CPU, helper], 450), ([], 900)):
        settings = PassSettings("r", SPEC, RunLayout(tmp_path), options, telemetry, Mock())
        assert settings.stage(0, devices).expected_tokens == expected
