"""The main job on a GPU: agreement with sentence-transformers there, leases with NVML snapshots, memory given back."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from embedfleet import open_run

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

SHAPES = ["bge_m3_shape", "qwen3_shape"]


def write_corpus(path: Path, rows: int) -> list[str]:
    rng = random.Random(5)
    words = ["lease", "device", "batch", "segment", "commit", "vector", "query", "corpus", "worker", "token", "memory"]
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 400))) + f" {row}" for row in range(rows)]
    path.write_text("".join(json.dumps({"id": f"c{row}", "text": text}) + "\n" for row, text in enumerate(texts)))
    return texts


def embed(source: Path, out: Path, *flags: str) -> dict:
    command = [sys.executable, "-c", "from embedfleet.client.cli import main; main()", "run", str(source)]
    done = subprocess.run(
        [*command, "--out", str(out), "--index", "none", "--json", *flags], capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def events(out: Path, name: str) -> list[dict]:
    found = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [one for one in found if one["event"] == name]


def reference(folder: Path, texts: list[str], dtype: str) -> np.ndarray:
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cuda", model_kwargs={"dtype": getattr(torch, dtype)})
    try:
        vectors = model.encode(texts, normalize_embeddings=True, batch_size=16, show_progress_bar=False)
        return np.asarray(vectors, np.float32)
    finally:
        del model
        torch.cuda.empty_cache()


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_agrees_in_every_component(shape, tmp_path, request):
    folder = request.getfixturevalue(shape)
    texts = write_corpus(tmp_path / "c.jsonl", 300)
    embed(tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(folder), "--dtype", "float32", "--devices", "cuda:0")
    vectors = open_run(tmp_path / "run").vectors()
    assert np.abs(vectors - reference(folder, texts, "float32")).max() <= 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_agrees_by_cosine(shape, tmp_path, request):
    folder = request.getfixturevalue(shape)
    texts = write_corpus(tmp_path / "c.jsonl", 300)
    embed(tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(folder), "--dtype", "bfloat16", "--devices", "cuda:0")
    run = open_run(tmp_path / "run")
    cosines = np.einsum("ij,ij->i", run.vectors(), reference(folder, texts, "bfloat16"))
    assert cosines.min() >= 0.9999
    placements = [one["placement"] for one in events(tmp_path / "run", "lease") if one["phase"] == "hydrated"]
    assert placements == ["cuda:0 bfloat16"]


def test_leases_show_nvml_snapshots_and_the_memory_comes_back(bge_m3_shape, tmp_path):
    write_corpus(tmp_path / "c.jsonl", 2_000)
    models = ["--dense", str(bge_m3_shape), "--sparse", "bm25"]
    embed(tmp_path / "c.jsonl", tmp_path / "run", *models, "--devices", "cuda:0")
    leases = [one for one in events(tmp_path / "run", "lease") if "cuda:0" in one["device"]]
    memory = {one["phase"]: one["memory"] for one in leases if one["memory"]}
    assert {memory[phase]["source"] for phase in ("before", "hydrated", "after")} == {"nvml"}
    assert memory["hydrated"]["used"] > memory["before"]["used"] + 500e6
    assert all(one["released"] for one in leases if one["phase"] == "after")
    assert not events(tmp_path / "run", "not_released")
    bm25 = [one for one in events(tmp_path / "run", "lease") if one["vector"] == "sparse-bm25"]
    assert {one["device"] for one in bm25} == {next(one["device"] for one in bm25 if "auxiliary" in one["device"])}


def test_two_models_rotate_on_one_gpu(bge_m3_shape, qwen3_shape, tmp_path):
    import shutil

    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(bge_m3_shape, first)
    shutil.copytree(qwen3_shape, second)
    write_corpus(tmp_path / "c.jsonl", 3_000)
    ending = embed(
        tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(first), "--dense", str(second), "--devices", "cuda:0"
    )
    staged = next(
        one for one in events(tmp_path / "run", "lease") if one["phase"] == "staged" and one["vector"] == "dense-second"
    )
    released = next(
        one for one in events(tmp_path / "run", "lease") if one["phase"] == "after" and one["vector"] == "dense-first"
    )
    assert staged["time"] < released["time"]
    assert ending["passes"][1]["rotation_gap_seconds"] is not None


def test_one_gpu_is_not_leased_to_two_runs(bge_m3_shape, tmp_path):
    from embedfleet.coordinator.devices import discover
    from embedfleet.coordinator.leases import DeviceLock

    uuid = discover("cuda:0", "here")[0].uuid
    lock = DeviceLock(uuid)
    write_corpus(tmp_path / "c.jsonl", 10)
    command = [sys.executable, "-c", "from embedfleet.client.cli import main; main()", "run", str(tmp_path / "c.jsonl")]
    waiting = subprocess.Popen(
        [
            *command,
            "--out",
            str(tmp_path / "run"),
            "--dense",
            str(bge_m3_shape),
            "--index",
            "none",
            "--devices",
            "cuda:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert waiting.stderr is not None
        said = next(line for line in waiting.stderr if "waiting for" in line)
        assert "held by another run" in said
        lock.release()
        assert waiting.wait(300) == 0
    finally:
        waiting.kill()
        waiting.wait()
        waiting.stderr.close()
