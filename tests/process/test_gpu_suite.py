"""The rehearsal of the GPU suite: each stage on a CPU, with models of two layers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from embedfleet.protocol.host.gpus import find_gpus

SUITE = Path(__file__).parents[2] / "benchmarks" / "gpu_suite.py"
STAGES = [
    "roofline",
    "correctness",
    "forward_passes",
    "compiled",
    "vocabulary",
    "tokenizing",
    "whole_command",
    "profile",
]


def test_every_stage_is_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    command = [sys.executable, str(SUITE), str(out), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["of"] for one in found if one["stage"] == "took"] == STAGES
    assert not [one for one in found if "failed" in one or "left_out" in one]
    least = {one["model"]: one["least_cosine"] for one in found if "least_cosine" in one}
    assert len(least) == 10
    assert min(least.values()) > 0.99999
    assert {one["way"] for one in found if one["stage"] == "forward"} == {"packed", "padded"}
    assert [one["backend"] for one in found if one["stage"] == "command"] == ["auto"]
    (graphs,) = (one for one in found if "graphs" in one)
    assert graphs["graphs"] <= 2
    assert graphs["least_cosine_to_eager"] > 0.99999
    assert [tuple(one["size"]) for one in found if "ratio" in one] == [(600, "mixed"), (256, "64")]


def test_without_a_gpu_it_says_how_to_rehearse(tmp_path: Path) -> None:
    if list(find_gpus(None)):
        pytest.skip("there is a GPU")
    command = [sys.executable, str(SUITE), str(tmp_path / "found.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("add --tiny to rehearse on the CPU")
