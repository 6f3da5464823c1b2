"""What a spec and devices make of a run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from embedfleet.coordinator.core.events import PassPlan
from embedfleet.coordinator.runs.planner import (
    NO_WEIGHTS,
    SLOW_LIMITS,
    BatchSizes,
    batch_sizes,
    choose_dtype,
    plan_passes,
    segment_limits,
)
from embedfleet.protocol.run_directory.records.intake import SegmentLimits
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.devices import Device
from embedfleet.protocol.wire.run_options import DEFAULTS, RunOptions


def one(kind: Any, model: str = "m", **options: Any) -> PassSpec:
    return PassSpec(vector=f"v-{kind}", kind=kind, model=model, **options)


def spec(*passes: PassSpec) -> RunSpec:
    return RunSpec(source="s", passes=passes)


def device(kind: Any, capability: tuple[int, int] = (0, 0), *, auxiliary: bool = False) -> Device:
    return Device(
        uuid=f"{kind}{capability}", kind=kind, name="d", memory=1, threads=1, capability=capability, auxiliary=auxiliary
    )


def plans(*passes: PassSpec, options: RunOptions = DEFAULTS) -> tuple[PassPlan, ...]:
    """Without what is loaded, which has tests of its own."""
    return tuple(msgspec.structs.replace(plan, loads="") for plan in plan_passes(spec(*passes), options))


def loads(one: PassSpec, options: RunOptions = DEFAULTS) -> str:
    return plan_passes(spec(one), options)[0].loads


CPU, HELPER = device("cpu"), device("cpu", auxiliary=True)
T4, H100 = device("cuda", (7, 5)), device("cuda", (9, 0))


@pytest.mark.parametrize(
    ("given", "plan"),
    [
        (one("dense"), PassPlan("v-dense")),
        (one("multivector"), PassPlan("v-multivector")),
        (one("sparse"), PassPlan("v-sparse", fallback=True)),
        (one("sparse", fallback=False), PassPlan("v-sparse")),
        (one("bm25"), PassPlan("v-bm25", cpu_only=True, after_intake=True, light=True)),
        (one("bm25", average_length=9.5), PassPlan("v-bm25", cpu_only=True, light=True)),
        (
            one("metadata"),
            PassPlan(
                "v-metadata",
                cpu_only=True,
                given_up="the weights are those of the metadata",
                light=True,
                without=NO_WEIGHTS,
            ),
        ),
        (
            one("metadata", side="query"),
            PassPlan("v-metadata", cpu_only=True, given_up="the weights are those of the metadata", light=True),
        ),
    ],
)
def test_what_the_pool_knows_of_a_pass(given: PassSpec, plan: PassPlan) -> None:
    assert plans(given) == (plan,)


@pytest.mark.parametrize("kind", ["dense", "sparse", "multivector", "bge-m3"])
def test_workers_stay_for_a_run_with_other_limits_of_time(kind: Any) -> None:
    mine = RunOptions(load_timeout=60, batch_timeout=5, cpu_fallback=True, expected_tokens=1_000)
    assert loads(one(kind)) == loads(one(kind), mine) != ""


@pytest.mark.parametrize(
    ("other", "options"),
    [
        (one("sparse", "n"), RunOptions()),
        (one("sparse", revision="v2"), RunOptions()),
        (one("sparse", dtype="float32"), RunOptions()),
        (one("sparse", max_tokens=64), RunOptions()),
        (one("sparse", prompt="passage: "), RunOptions()),
        (one("sparse", trust_remote_code=True), RunOptions()),
        (one("sparse", side="query"), RunOptions()),
        (one("sparse", max_active_dims=8), RunOptions()),
        (one("sparse"), RunOptions(backend="torch")),
        (one("sparse"), RunOptions(sparse_device="cpu")),
    ],
)
def test_workers_do_not_stay_for_a_pass_that_loads_otherwise(other: PassSpec, options: RunOptions) -> None:
    assert loads(one("sparse")) != loads(other, options)


def test_what_bm25_loads_is_known_once_its_average_length_is() -> None:
    assert loads(one("bm25")) == ""
    assert loads(one("bm25", average_length=9.5)) == loads(one("bm25", average_length=9.5)) != ""
    assert loads(one("bm25", average_length=9.5)) != loads(one("bm25", average_length=10.5))


@pytest.mark.parametrize(
    ("where", "plan", "dtype"),
    [
        ("auto", PassPlan("v-sparse", fallback=True), "bfloat16"),
        ("cpu", PassPlan("v-sparse", cpu_only=True, fallback=True), "float32"),
        ("gpu", PassPlan("v-sparse", gpu_only=True, fallback=True), "bfloat16"),
    ],
)
def test_where_a_learned_sparse_model_runs(where: Any, plan: PassPlan, dtype: str) -> None:
    options = RunOptions(sparse_device=where)
    assert plans(one("dense"), one("sparse"), options=options) == (PassPlan("v-dense"), plan)
    assert choose_dtype(one("sparse"), None, [H100, HELPER], options).dtype == dtype
    assert choose_dtype(one("dense"), None, [H100, HELPER], options).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("passes", "devices", "limits"),
    [
        ((one("dense"),), (CPU,), SLOW_LIMITS),
        ((one("bm25"), one("sparse")), (CPU,), SLOW_LIMITS),
        ((one("dense"),), (HELPER, T4), SegmentLimits()),
        ((one("dense", "fake:8"), one("bm25"), one("metadata")), (CPU,), SegmentLimits()),
    ],
)
def test_segments_are_small_where_real_models_are_slow(
    passes: tuple[PassSpec, ...], devices: tuple[Device, ...], limits: SegmentLimits
) -> None:
    assert segment_limits(spec(*passes), devices) == limits


@pytest.mark.parametrize(
    ("passes", "limits"),
    [
        ((one("multivector"),), SegmentLimits()),
        ((one("bge-m3", "bge-m3"), one("dense")), SegmentLimits(rows=8_192, tokens=131_072)),
        ((one("bge-m3", "/a/folder"),), SegmentLimits(rows=8_192, tokens=131_072)),
        ((one("bge-m3", "bge-m3", pool_factor=4),), SegmentLimits(rows=16_384, tokens=524_288)),
        ((one("multivector", "fake:256"), one("multivector", "fake:16")), SegmentLimits(rows=16_384, tokens=524_288)),
        ((one("bge-m3", "fake:64"),), SegmentLimits()),
        ((one("multivector", "fake:65536"),), SegmentLimits(rows=128, tokens=2_048)),
    ],
)
def test_segments_of_wide_multivectors_hold_fewer_tokens(passes: tuple[PassSpec, ...], limits: SegmentLimits) -> None:
    assert segment_limits(spec(*passes), (H100,)) == limits


def test_small_segments_begin_smaller_still() -> None:
    """An early interrupt of a slow run keeps what is committed: nothing, if the first segment takes minutes."""
    assert segment_limits(spec(one("bge-m3")), (CPU,)).of(0) == SLOW_LIMITS.of(0) == (64, 4_096)


@pytest.mark.parametrize(
    ("of", "usual", "row_bytes", "fixed", "sizes"),
    [
        (one("dense"), 65_536, 1_536, False, BatchSizes(4_096, 4_096, 1_048_576, 16_384)),  # a GPU
        (one("dense"), 8_192, 1_536, False, BatchSizes(512, 4_096, 131_072, 16_384)),  # a CPU
        (one("dense"), 8_192, 1_536, True, BatchSizes(2_048, 4_096, 0, 0)),  # one that pads
        (one("dense"), 65_536, 16_384, False, BatchSizes(4_096, 4_096, 1_048_576, 4_096)),
        (one("dense"), 65_536, 1 << 18, False, BatchSizes(4_096, 256, 1_048_576, 256)),
        (one("multivector"), 65_536, 65_536, False, BatchSizes(4_096, 1_024, 262_144, 1_024)),
        (one("bge-m3", "bge-m3"), 65_536, 1 << 19, False, BatchSizes(4_096, 128, 32_768, 128)),
        (one("multivector", "fake:65536"), 524_288, 1 << 27, False, BatchSizes(512, 1, 512, 1)),
        (one("dense"), 0, 0, False, BatchSizes(1, 4_096, 0, 16_384)),
    ],
)
def test_batches_have_bounds_by_what_their_results_take(
    of: PassSpec, usual: int, row_bytes: int, fixed: bool, sizes: BatchSizes
) -> None:
    assert batch_sizes(of, usual, row_bytes, fixed=fixed) == sizes


@pytest.mark.parametrize(
    ("devices", "dtype"),
    [
        ((CPU,), "float32"),
        ((), "float32"),
        ((HELPER, H100), "bfloat16"),
        ((HELPER, H100, T4), "float16"),
        ((CPU, H100), "float32"),
    ],
)
def test_auto_becomes_what_every_device_computes_well(devices: tuple[Device, ...], dtype: str) -> None:
    assert choose_dtype(one("dense"), None, devices).dtype == dtype


def before(dtype: str) -> Fingerprint:
    return Fingerprint(
        model="m", revision="", weights="w", dtype=dtype, max_tokens=1, prompt="", pooling="", dim=8,
        normalized=True, versions={},
    )  # fmt: skip


def test_a_resume_computes_as_the_committed_segments_were() -> None:
    assert choose_dtype(one("dense"), before("bfloat16"), (CPU,)).dtype == "bfloat16"
    assert choose_dtype(one("dense"), before("int4"), (CPU,)).dtype == "float32"


@pytest.mark.parametrize("given", [one("dense", dtype="float16"), one("bm25"), one("dense", "fake:8")])
def test_what_is_settled_or_has_no_dtype_is_left_alone(given: PassSpec) -> None:
    assert choose_dtype(given, before("bfloat16"), (H100,)) is given
