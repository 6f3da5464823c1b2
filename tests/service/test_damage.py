"""A byte that changes on disk: `verify` finds it, the same command computes it again, and it is never published."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.run_directory.layout import RunLayout

from ..run_copies import copied

pytest.importorskip("qdrant_edge")

DIM = 16


def arguments(source: Path, out: Path, *more: str) -> tuple[str, ...]:
    models = ("--dense", f"fake:{DIM}", "--dense", "fake:8", "--ensemble", "concat")
    return ("run", str(source), "--out", str(out), *models, "--devices", "cpu", *more)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"row {row} of several" for row in range(20_000)]


@pytest.fixture(scope="module")
def expected(texts: list[str], fake_vectors: Any) -> np.ndarray:
    """The vectors of the first model."""
    return fake_vectors(texts, DIM)


@pytest.fixture(scope="module")
def made(cli: Any, corpus_of: Any, tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> tuple[Path, Path]:
    """A source, and the finished run of it: two segments."""
    folder = tmp_path_factory.mktemp("damage")
    source, out = corpus_of(folder / "corpus.jsonl", texts), folder / "run"
    cli(*arguments(source, out))
    return source, out


@pytest.fixture
def done(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The source, and a copy of the run."""
    return made[0], copied(made[1], tmp_path / "run")


def flip(path: Path, at: float) -> None:
    """Change one bit in the middle of a file, and nothing of its size or times."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("vector", [f"dense-fake-{DIM}", "ensemble-concat"])
def test_a_flipped_bit_is_found_and_computed_again(
    done: tuple[Path, Path], cli: Any, read_events: Any, expected: np.ndarray, vector: str
) -> None:
    source, out = done
    path = RunLayout(out).vector_segment(vector, 1)
    whole = path.read_bytes()
    flip(path, 0.5)
    report = cli("verify", out, "--json", code=1).json
    assert any("00001.parquet" in problem for problem in report["problems"])
    again = cli(*arguments(source, out))
    assert path.read_bytes() == whole
    assert cli("verify", out, "--json").json["problems"] == []
    np.testing.assert_array_equal(open_run(out).vectors(f"dense-fake-{DIM}"), expected)
    if vector.startswith("dense"):
        assert f"segment 1 of {vector} was damaged" in again.err
        (event,) = [one for one in read_events(out) if one["event"] == "segment_damaged"]
        assert (event["vector"], event["segment"]) == (vector, 1)


def test_a_damaged_segment_is_never_published(
    start: Any, cli: Any, made: tuple[Path, Path], tmp_path: Path, texts: list[str], waiting: Any
) -> None:
    """The first segment of one pass stands and its bit flips before the other pass makes it ready to be published."""
    source, out = made[0], tmp_path / "run"
    models = ("--dense", f"fake:{DIM}", "--dense", "fake:8,delay_ms=700", "--devices", "cpu")
    command = start("run", source, "--out", out, *models)
    path = RunLayout(out).vector_segment(f"dense-fake-{DIM}", 0)
    waiting.eventually(path.exists, 30.0, "a committed segment")
    for one in command.look().values():
        one.kill()
    command.process.wait()
    assert not (out / "published.json").exists()
    flip(path, 0.5)
    cli("run", source, "--out", out, *models)
    hits = cli("search", out, texts[5], "--top-k", "1", "--json").json
    assert hits[0]["scores"][f"dense-fake-{DIM}"] == pytest.approx(1.0, abs=1e-5)
    assert cli("verify", out, "--json").json["problems"] == []


def test_damaged_chunks_are_read_from_the_source_again(done: tuple[Path, Path], cli: Any, read_events: Any) -> None:
    source, out = done
    layout = RunLayout(out)
    path, kept = layout.chunk_segment(1), layout.vector_segment(f"dense-fake-{DIM}", 1)
    whole, stamp = path.read_bytes(), kept.stat()
    flip(path, 0.5)
    assert "00001.parquet" in json.dumps(cli("verify", out, "--json", code=1).json["problems"])
    refused = cli(*arguments(source, out), code=1)
    assert f"{path} was damaged" in refused.err
    assert "run the same command again, which reads it from the source" in refused.err
    assert [one["segment"] for one in read_events(out) if one["event"] == "chunks_damaged"] == [1]
    cli(*arguments(source, out))
    assert path.read_bytes() == whole
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns), "the vectors stay"
    assert cli("verify", out, "--json").json["problems"] == []


@pytest.mark.parametrize("missing", ["vectors", "intake"])
def test_damaged_chunks_that_the_run_meets_first_are_read_again_too(
    done: tuple[Path, Path], cli: Any, missing: str
) -> None:
    """Where the segment has to be sorted, or its ids remembered, that comes before the look at what stands."""
    source, out = done
    layout = RunLayout(out)
    path = layout.chunk_segment(0)
    whole = path.read_bytes()
    if missing == "vectors":
        layout.vector_segment(f"dense-fake-{DIM}", 0).unlink()
    else:
        layout.intake.unlink()
    flip(path, 0.5)
    assert f"{path} was damaged" in cli(*arguments(source, out), code=1).err
    cli(*arguments(source, out))
    assert path.read_bytes() == whole
    assert cli("verify", out, "--json").json["problems"] == []
