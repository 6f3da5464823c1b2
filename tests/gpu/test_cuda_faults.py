"""Faults on a real GPU: a worker that dies or stands still, memory that runs out, and a text that breaks the CUDA context."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.work import Mitigation, Ready

from .. import tiny_models
from .corpus import events, write_corpus

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

ON_GPU = ("--devices", "cuda:0")


def wait_for(out: Path, name: str, process: subprocess.Popen[bytes], **fields: str) -> dict[str, Any]:
    """The first event of that name and those fields; fails where the run ends without it."""
    while True:
        over = process.poll() is not None
        found = events(out, name) if (out / "events.jsonl").exists() else []
        for one in found:
            if fields.items() <= one.items():
                return one
        assert not over, f"the run ended without {name} {fields}"
        time.sleep(0.02)  # between two looks; nothing relies on how long it takes


def cosines(one: Path, other: Path) -> np.ndarray:
    return np.einsum("ij,ij->i", open_run(one).vectors(), open_run(other).vectors())


@pytest.mark.parametrize(("number", "more"), [(signal.SIGKILL, ()), (signal.SIGSTOP, ("--batch-timeout", "5"))])
def test_a_worker_that_dies_or_stands_still_costs_no_row_and_its_memory_comes_back(
    bge_m3_shape: Path, tmp_path: Path, embed: Callable[..., Any], begin: Callable[..., Any], number: int, more: Any
) -> None:
    texts = write_corpus(tmp_path / "c.jsonl", 6_000)
    flags = ("--dense", str(bge_m3_shape), *ON_GPU, "--index", "none")
    embed(tmp_path / "c.jsonl", tmp_path / "whole", *flags)
    out = tmp_path / "run"
    process = begin(tmp_path / "c.jsonl", out, *flags, *more)
    pid = wait_for(out, "lease", process, phase="before")["pid"]
    wait_for(out, "lease", process, phase="hydrated")
    os.kill(pid, number)
    wait_for(out, "worker_lost", process)
    assert process.wait(600) == 0
    assert len(open_run(out).chunks) == len(texts)
    assert cosines(out, tmp_path / "whole").min() >= 0.9999
    assert not events(out, "not_released")
    leases = [one["memory"]["used"] for one in events(out, "lease") if one["phase"] == "before"]
    assert len(leases) == 2
    assert leases[1] <= leases[0] + 256e6


def test_a_tenant_that_takes_the_memory_makes_micro_batches_smaller_and_costs_no_row(
    bge_m3_shape: Path, tmp_path: Path, embed: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    import torch

    write_corpus(tmp_path / "c.jsonl", 12_000)
    flags = ("--dense", str(bge_m3_shape), *ON_GPU, "--index", "none")
    embed(tmp_path / "c.jsonl", tmp_path / "whole", *flags)
    out = tmp_path / "run"
    torch.cuda.init()
    process = begin(tmp_path / "c.jsonl", out, *flags)
    wait_for(out, "lease", process, phase="hydrated")
    taken = []
    try:
        while process.poll() is None:  # what the worker gives back is taken too, but for 600 MB
            free, _ = torch.cuda.mem_get_info()
            if free > 900e6:
                taken.append(torch.empty(int(free - 600e6), dtype=torch.uint8, device="cuda"))
            if events(out, "mitigation"):
                break
            time.sleep(0.05)
    finally:
        taken.clear()
        torch.cuda.empty_cache()
    assert process.wait(600) == 0
    assert {one["reason"] for one in events(out, "mitigation")} & {"memory_pressure", "out_of_memory"}
    assert cosines(out, tmp_path / "whole").min() >= 0.9999


def test_out_of_memory_halves_the_micro_batch_in_place(bge_m3_shape: Path, tmp_path: Path) -> None:
    """The worker's own thread, in this process, so that the driver can be told to refuse."""
    import torch
    from embedfleet.coordinator.hosts.discovery import discover
    from embedfleet.worker.device.memory import DeviceMemory
    from embedfleet.worker.model_manager import ModelManager
    from embedfleet.worker.outcomes import Computed
    from embedfleet.worker.pipeline import Pipeline, TextBatch

    texts = write_corpus(tmp_path / "c.jsonl", 1_500)
    memory = DeviceMemory("cuda", discover("cuda:0", "here")[0].uuid)
    manager = ModelManager("cuda", 4, memory)
    manager.stage(PassSpec(vector="v", kind="dense", model=str(bge_m3_shape)))
    pipeline = Pipeline(manager, memory)

    def outcome() -> tuple[Any, list[str]]:
        changes: list[str] = []
        while True:
            assert select.select([pipeline.wake_fd], [], [], 300.0)[0], "nothing came"
            for one in pipeline.take():
                if isinstance(one, Mitigation):
                    changes.append(one.reason)
                else:
                    return one, changes

    pipeline.hydrate()
    assert isinstance(outcome()[0], Ready)
    pipeline.submit(TextBatch(1, 1, texts))
    roomy, _ = outcome()
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 400e6) / total)
        pipeline.submit(TextBatch(2, 1, texts))
        tight, changes = outcome()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(roomy, Computed)
    assert isinstance(tight, Computed)
    assert "out_of_memory" in changes
    assert np.einsum("ij,ij->i", roomy.arrays["vector"], tight.arrays["vector"]).min() >= 0.9999


def test_a_text_that_breaks_the_cuda_context_is_quarantined_alone(tmp_path: Path, embed: Callable[..., Any]) -> None:
    """A token beyond the model's vocabulary is an assertion in the kernel, after which that process can compute no more."""
    rows, guilty = 64, 41
    folder = tiny_models.bert(tmp_path / "bert", vocabulary=5_900)
    texts = [f"a lease of batch {row}" for row in range(rows)]
    texts[guilty] = "a cinema"  # token 5,988
    lines = [json.dumps({"id": f"c{row}", "text": text}) for row, text in enumerate(texts)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines) + "\n")
    embed(tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(folder), *ON_GPU, "--index", "none", code=3)
    (bad,) = map(json.loads, (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines())
    assert bad["row"] == guilty
    assert "CUDA" in bad["reason"]
    vectors = open_run(tmp_path / "run").vectors()
    assert np.isnan(vectors[guilty]).all()
    assert np.isfinite(np.delete(vectors, guilty, axis=0)).all()
