"""The main job on a GPU: agreement with sentence-transformers there, leases with NVML snapshots, memory given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedfleet import open_run

from .corpus import events, write_corpus

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

SHAPES = ["bge_m3_shape", "qwen3_shape"]


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
def test_float32_agrees_in_every_component(shape, tmp_path, embed, request):
    folder = request.getfixturevalue(shape)
    texts = write_corpus(tmp_path / "c.jsonl", 300)
    embed(tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(folder), "--dtype", "float32", "--devices", "cuda:0")
    vectors = open_run(tmp_path / "run").vectors()
    assert np.abs(vectors - reference(folder, texts, "float32")).max() <= 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_agrees_by_cosine(shape, tmp_path, embed, request):
    folder = request.getfixturevalue(shape)
    texts = write_corpus(tmp_path / "c.jsonl", 300)
    embed(tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(folder), "--dtype", "bfloat16", "--devices", "cuda:0")
    run = open_run(tmp_path / "run")
    cosines = np.einsum("ij,ij->i", run.vectors(), reference(folder, texts, "bfloat16"))
    assert cosines.min() >= 0.9999
    hydrated = [one for one in events(tmp_path / "run", "lease") if one["phase"] == "hydrated"]
    assert [one["placement"].partition(", ")[0] for one in hydrated] == ["cuda:0 bfloat16"]


def test_leases_show_nvml_snapshots_and_the_memory_comes_back(bge_m3_shape, tmp_path, embed):
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


def test_two_models_rotate_on_one_gpu(bge_m3_shape, qwen3_shape, tmp_path, embed):
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


def test_one_gpu_is_not_leased_to_two_runs(bge_m3_shape, tmp_path, begin):
    from embedfleet.coordinator.hosts.discovery import discover
    from embedfleet.coordinator.hosts.lease import DeviceLock

    uuid = discover("cuda:0", "here")[0].uuid
    lock = DeviceLock(uuid)
    write_corpus(tmp_path / "c.jsonl", 10)
    waiting = begin(tmp_path / "c.jsonl", tmp_path / "run", "--dense", str(bge_m3_shape), "--devices", "cuda:0")
    try:
        said = next(line for line in waiting.stderr if b"waiting for" in line)
        assert b"held by another run" in said
    finally:
        lock.release()
    assert waiting.wait(300) == 0
