"""The arithmetic of a plan."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from embedfleet.client.planning.device_choice import PlannedDevices, devices_here, named_gpus
from embedfleet.client.planning.estimate import Inputs, make_plan
from embedfleet.client.planning.memory import dtype_of, memory_of
from embedfleet.client.planning.page import duration
from embedfleet.client.planning.plan import Plan
from embedfleet.client.planning.rates import Measured, MeasuredRun, operations_per_token
from embedfleet.protocol.planning.gpus import parse_gpus
from embedfleet.protocol.planning.model_figures import ModelFacts, PassesAnswer, PassFigures, VectorFigures
from embedfleet.protocol.planning.survey import Survey
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.devices import Device

CPU = Device(uuid="cpu-x-0", kind="cpu", name="cpu:0 (2 threads)", memory=8 << 30, threads=2)
HELPER = Device(uuid="cpu-x-h", kind="cpu", name="cpu helper 1 (1 thread)", memory=8 << 30, threads=1, auxiliary=True)
FACTS = ModelFacts(
    max_tokens=512, dim=768, parameters=109_000_000, table_parameters=24_000_000, layers=12, hidden=768, basis="counted"
)
DENSE = PassSpec(vector="dense-x", kind="dense", model="owner/x")
BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")


def vector(name: str, row_bytes: float = 3_100.0) -> VectorFigures:
    return VectorFigures(
        vector=name,
        form="dense",
        dim=768,
        storage="float32",
        row_bytes=row_bytes,
        segment_bytes=4_000.0,
        basis="counted",
    )


def figures(name: str, rows: int, **more: Any) -> PassFigures:
    """Each text has 90 or 110 tokens."""
    about = {"model": FACTS, "squares": rows * (90.0**2 + 110.0**2) / 2, "truncated": rows // 10, "tokens_cut": rows}
    about |= {"tokens_basis": "sampled", "vectors": (vector(name),)} | more
    return PassFigures(vector=name, rows=rows, tokens=100 * rows, **about)


def survey(exact: bool = True, **more: Any) -> Survey:
    about: dict[str, Any] = {
        "exact": exact,
        "files": 2,
        "source_bytes": 5_000_000,
        "records": 10_010,
        "looked_at": 10_010 if exact else 1_001,
        "rows": 10_000,
        "rejected": 10,
        "duplicates": 0,
        "text_bytes": 4_000_000,
        "sampled_rows": 10_000 if exact else 1_000,
        "segments": 5,
        "segment_rows": 2_000,
        "chunk_bytes": 1_000_000,
    }
    return Survey(**about | more)


def plan(*passes: PassSpec, exact: bool = True, devices: PlannedDevices | None = None, **more: Any) -> Plan:
    rows = 10_000 if exact else 1_000
    answer = PassesAnswer(
        passes=tuple(
            figures(one.vector, rows, **({"row_seconds": 0.0001} if one.kind == "bm25" else {})) for one in passes
        ),
        matrix_rate=more.pop("matrix_rate", 0.0),
    )
    spec = RunSpec(source="/c.jsonl", passes=passes, index="none")
    return make_plan(Inputs(spec, survey(exact), answer, devices or devices_here([CPU, HELPER]), **more))


def test_counted_figures_of_a_source_that_was_read_whole() -> None:
    found = plan(DENSE)
    assert (found.rows.value, found.rows.basis, found.rows.error) == (10_000, "counted", 0)
    one = found.passes[0]
    assert (one.tokens.value, one.tokens.basis) == (1_000_000, "counted")
    assert one.truncated_share is not None
    assert one.truncated_share.value == 0.1
    assert one.tokens_cut_share is not None
    assert one.tokens_cut_share.value == pytest.approx(10_000 / 1_010_000)
    assert one.vectors[0].bytes.value == 3_100 * 10_000 + 4_000 * 5
    assert found.bytes.value == one.vectors[0].bytes.value + 1_000_000
    assert found.bytes.basis == "counted"


def test_a_sample_has_an_error() -> None:
    found = plan(DENSE, exact=False)
    tokens = found.passes[0].tokens
    assert (tokens.value, tokens.basis) == (1_000_000, "sampled")
    assert found.rows.error == pytest.approx(1.96 * (0.001 / 0.999 / 1_001) ** 0.5, rel=0.01)
    assert tokens.error == pytest.approx((found.rows.error**2 + (1.96 * 0.1 / 1_000**0.5) ** 2) ** 0.5, rel=0.01)
    assert found.bytes.basis == "sampled"


def test_a_gpu_by_its_published_rate() -> None:
    found = plan(DENSE, devices=named_gpus(parse_gpus("2xT4")), price=36.0, shards=4)
    one = found.passes[0]
    work = 2 * (109e6 - 24e6) + 4 * 12 * 768 * (90**2 + 110**2) / 2 / 100
    assert operations_per_token(figures("x", 10)) == pytest.approx(work)
    assert one.tokens_per_second is not None
    assert one.tokens_per_second.value == pytest.approx(2 * 65e12 * 0.35 / work)
    assert one.tokens_per_second.basis == "assumed"
    assert "T4 data sheet" in one.tokens_per_second.note
    assert one.dtype == "float16"
    assert found.start_seconds is not None
    assert found.seconds is not None
    assert found.shard_seconds is not None
    assert found.cost is not None
    busy = max(1e6 / one.tokens_per_second.value, 10_000 / 25_000)
    assert found.seconds.value == pytest.approx(12 + 3 * 1.1 + busy), "workers stay from shard to shard"
    assert found.shard_seconds.value == pytest.approx(12 + busy / 4), "a command of its own"
    assert found.cost.value == pytest.approx(found.seconds.value / 100)


def test_fast_gpus_wait_for_the_coordinator() -> None:
    found = plan(DENSE, devices=named_gpus(parse_gpus("8xH100")))
    assert any("25,000 rows a second of one machine" in note for note in found.notes)
    assert found.seconds is not None
    assert found.seconds.value == pytest.approx(12 + 0.4)


def test_measured_rates_come_first() -> None:
    measured = MeasuredRun({"dense-x": Measured(5_000, 50, 10.0)}, 7.0, "a run of 50 sampled rows")
    found = plan(DENSE, measured=measured, matrix_rate=1e11)
    assert found.seconds is not None
    assert (found.seconds.value, found.seconds.basis) == (7 + 1e6 / 500, "measured")
    assert found.passes[0].seconds is not None
    assert found.passes[0].seconds.note == "a run of 50 sampled rows"


def test_what_a_further_shard_adds_is_assumed_and_no_more_than_a_start() -> None:
    measured = MeasuredRun({"dense-x": Measured(5_000, 50, 10.0)}, 0.5, "a run of 50 sampled rows")
    found = plan(DENSE, measured=measured, shards=4)
    assert found.seconds is not None
    assert found.shard_seconds is not None
    assert (found.seconds.value, found.seconds.basis) == (4 * 0.5 + 1e6 / 500, "assumed")
    assert (found.shard_seconds.value, found.shard_seconds.basis) == (0.5 + 1e6 / 500 / 4, "measured")
    assert plan(DENSE, measured=measured).shard_seconds is None


def test_models_run_one_after_the_other_and_bm25_beside_them() -> None:
    rates = {
        "dense-x": Measured(1_000, 10, 1.0),
        "dense-y": Measured(2_000, 20, 1.0),
        "sparse-bm25": Measured(10**6, 10**4, 1),
    }
    other = msgspec.structs.replace(DENSE, vector="dense-y")
    found = plan(DENSE, other, BM25, measured=MeasuredRun(rates, 3.0, "x"))
    assert found.seconds is not None
    assert found.seconds.value == 3 + 1_000 + 500
    slow = rates | {"sparse-bm25": Measured(100, 1, 1.0)}
    found = plan(DENSE, other, BM25, measured=MeasuredRun(slow, 3.0, "x"))
    assert found.seconds is not None
    assert found.seconds.value == 3 + 10_000


def test_without_any_rate_there_is_no_time() -> None:
    found = plan(DENSE)
    assert found.seconds is found.cost is None
    assert any("give --measure to embed a sample" in note for note in found.notes)


def test_a_processor_by_its_matrix_rate() -> None:
    found = plan(DENSE, matrix_rate=1e11)
    rate = found.passes[0].tokens_per_second
    assert rate is not None
    assert rate.value == pytest.approx(0.7e11 / operations_per_token(figures("x", 10)))
    assert rate.basis == "assumed"


def test_memory_of_a_model() -> None:
    here = memory_of(DENSE, FACTS, named_gpus(parse_gpus("T4")))
    assert here is not None
    assert here.weights.value == 218_000_000
    assert here.enough
    large = msgspec.structs.replace(FACTS, parameters=7_600_000_000, hidden=4_096)
    short = memory_of(DENSE, large, named_gpus(parse_gpus("T4")))
    assert short is not None
    assert not short.enough
    assert memory_of(BM25, FACTS, devices_here([CPU])) is None
    assert dtype_of(DENSE, devices_here([CPU])) == "float32"
    assert dtype_of(msgspec.structs.replace(DENSE, dtype="bfloat16"), devices_here([CPU])) == "bfloat16"


def test_devices_of_a_host_without_those_that_only_help() -> None:
    found = devices_here([CPU, HELPER])
    assert (found.names, found.threads, found.is_gpu) == (("cpu:0 (2 threads)",), 2, False)
    gpu = msgspec.structs.replace(CPU, kind="cuda", name="NVIDIA H200 (cuda:0)", memory=140 << 30)
    found = devices_here([gpu, HELPER])
    assert found.gpu is not None
    assert (found.is_gpu, found.half, found.gpu.teraflops) == (True, True, 989)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "less than 0.01 s"),
        (0.25, "0.25 s"),
        (8.24, "8.2 s"),
        (200, "3 min 20 s"),
        (18_720, "5 h 12 min"),
        (1_047_600, "12 d 3 h"),
        (7_199.6, "2 h 0 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
