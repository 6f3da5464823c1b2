"""Where learned sparse models run that nobody placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embedfleet.coordinator.runs.sparse_placement import place_sparse
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.devices import Device
from embedfleet.protocol.wire.run_options import RunOptions


def device(kind: Any, threads: int) -> Device:
    return Device(uuid=kind, kind=kind, name="d", memory=1, threads=threads, auxiliary=kind == "cpu")


GPU, SLOT = device("cuda", 8), device("cpu", 4)
AUTO = RunOptions()
DENSE, SPARSE = PassSpec(vector="d", kind="dense", model="m"), PassSpec(vector="s", kind="sparse", model="m")


def spec(source: Path | str, *passes: PassSpec) -> RunSpec:
    return RunSpec(source=str(source), passes=passes or (DENSE, SPARSE))


def file(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.mark.parametrize(
    ("threads", "size", "where", "why"),
    [
        (
            4,
            80_000,
            "cpu",
            "the CPU slot: 80,000 bytes are an estimated 8 s on 4 threads, 10 s on a GPU with its start",
        ),
        (4, 120_000, "auto", "a GPU: 120,000 bytes and more are an estimated 12 s on 4 threads, 10 s on a GPU"),
        (8, 120_000, "cpu", "the CPU slot: 120,000 bytes are an estimated 6 s on 8 threads"),
        (192, 2_000_000, "auto", "a GPU: 2,000,000 bytes and more are an estimated 24 s on 32 threads"),
    ],
)
def test_a_small_corpus_takes_the_slot_and_a_large_one_the_gpu(
    tmp_path: Path, threads: int, size: int, where: str, why: str
) -> None:
    source = file(tmp_path / "corpus.jsonl", size)
    found = place_sparse(spec(source), AUTO, [GPU, device("cpu", threads)], tmp_path / "run")
    assert found.options == RunOptions(sparse_device=where)
    assert found.reason.startswith(why)


def test_a_folder_is_counted_without_what_is_no_source(tmp_path: Path) -> None:
    out = tmp_path / "corpus" / "run"
    for name in ("a_chunks.json", "B/b.jsonl"):
        file(tmp_path / "corpus" / name, 30_000)
    for name in ("other.json", "notes.txt", ".hidden.jsonl", "run/old.jsonl"):
        file(tmp_path / "corpus" / name, 1_000_000)
    found = place_sparse(spec(tmp_path / "corpus"), AUTO, [GPU, SLOT], out)
    assert found.reason.startswith("the CPU slot: 60,000 bytes")


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "corpus.parquet", "folder/a.jsonl.zst", "empty.jsonl"])
def test_where_the_size_says_nothing_the_gpu_is_taken(tmp_path: Path, name: str) -> None:
    path = file(tmp_path / name, 0 if "empty" in name else 10)
    source = path.parent if "/" in name else path
    found = place_sparse(spec(source), AUTO, [GPU, SLOT], tmp_path / "run")
    assert (found.options, found.reason) == (AUTO, "a GPU: how much text the source holds is not known beforehand")


@pytest.mark.parametrize("source", ["-", "/nowhere/corpus.jsonl"])
def test_a_pipe_and_what_is_not_there_leave_it_to_the_gpu(source: str) -> None:
    assert place_sparse(spec(source), AUTO, [GPU, SLOT], Path("/run")).reason.startswith("a GPU: ")


@pytest.mark.parametrize(
    ("passes", "options", "devices"),
    [
        ((DENSE,), AUTO, [GPU, SLOT]),
        ((SPARSE,), AUTO, [SLOT]),
        ((SPARSE,), AUTO, [GPU]),
        ((SPARSE,), RunOptions(sparse_device="gpu"), [GPU, SLOT]),
        ((SPARSE,), RunOptions(sparse_device="cpu"), [GPU, SLOT]),
        ((DENSE,), RunOptions(sparse_device="gpu"), [SLOT]),
    ],
)
def test_there_is_nothing_to_choose(tmp_path: Path, passes: Any, options: RunOptions, devices: list[Device]) -> None:
    source = file(tmp_path / "corpus.jsonl", 10)
    found = place_sparse(spec(source, *passes), options, devices, tmp_path / "run")
    assert (found.options, found.reason) == (options, "")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="--sparse-device gpu: no GPU is in the fleet"):
        place_sparse(spec("-"), RunOptions(sparse_device="gpu"), [SLOT], Path("/run"))
