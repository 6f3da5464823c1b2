"""The table of GPUs, and the names by which a plan takes them."""

from __future__ import annotations

import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.planning.gpus import gpu_table, kind_of, parse_gpus
from embedfleet.protocol.planning.model_figures import weakest


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [("8xH100", 8, "H100"), ("2 x t4", 2, "T4"), ("A100-40GB", 1, "A100-40GB"), ("4\u00d7L4", 4, "L4")],
)
def test_a_count_and_a_kind(text: str, count: int, name: str) -> None:
    found = parse_gpus(text)
    assert (found.count, found.name) == (count, name)
    assert str(found) == f"{count} x {name}"


@pytest.mark.parametrize("text", ["", "8x", "H1000", "8xCPU", "x", "100", "cuda:0"])
def test_an_unknown_kind_is_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match=r"Known: B200, H200, H100, .*T4") as found:
        parse_gpus(text)
    assert found.value.args[0].startswith(f"--gpus {text!r}: give their count and kind, as in 8xH100")


@pytest.mark.parametrize("text", ["0xH100", "99999xH100"])
def test_a_count_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="give 1 to 1,024 GPUs"):
        parse_gpus(text)


def test_each_kind_names_its_source_and_is_found_by_the_drivers_names() -> None:
    for kind, gpu in gpu_table().items():
        assert "data sheet" in gpu.source
        assert 8 <= gpu.gigabytes <= 1_000
        assert 10 <= gpu.teraflops <= 10_000
        assert gpu.dtype == ("float16" if kind in ("V100", "T4") else "bfloat16")
        for name in gpu.names:
            assert kind_of(f"NVIDIA {name} (cuda:0)") == kind


def test_kinds_with_similar_names_are_told_apart() -> None:
    assert kind_of("NVIDIA L40S (cuda:1)") == "L40S"
    assert kind_of("NVIDIA L4 (cuda:1)") == "L4"
    assert kind_of("NVIDIA A100-SXM4-40GB (cuda:0)") == "A100-40GB"
    assert kind_of("Tesla T4 (cuda:0)") == "T4"
    assert kind_of("NVIDIA A10G (cuda:0)") is None
    assert kind_of("cpu:0 (2 threads)") is None


def test_a_figure_has_the_weakest_basis_of_its_parts() -> None:
    assert weakest("counted", "sampled") == "sampled"
    assert weakest("measured", "assumed", "counted") == "assumed"
    assert weakest("published", "measured") == "published"
