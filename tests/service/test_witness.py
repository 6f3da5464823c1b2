"""Run directories of release 0.1.0 and of a later state: read, verified, searched, exported and resumed by today's code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders.fake import FakeEncoder

from ..witness.corpora import LONG_ROWS, SMALL_ROWS, long_text, small_text
from ..witness.kept import BROKEN, RUNS, Kept, unpack

SMALL_TEXTS = [small_text(row) for row in range(SMALL_ROWS)]
LONG_TEXTS = [long_text(row).strip() for row in range(LONG_ROWS)]
REJECTED = {"every": 3, "minilm": 3, "int8": 0, "float16": 3, "binary": 3, "stdin": 3, "poison": 27}
"""Records and rows in quarantine."""
WORST_COSINE = {"float32": 1 - 1e-6, "float16": 0.999999, "int8": 0.99, "binary": 0.6}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Kept]:
    """All runs of a release; they are unpacked once, whichever order the tests have."""
    return functools.cache(lambda release: unpack(tmp_path_factory.mktemp("kept"), release))


@pytest.fixture(params=RUNS)
def kept(request: pytest.FixtureRequest, unpacked: Callable[[str], Kept]) -> Kept:
    """All runs of a release, to be read."""
    return unpacked(request.param)


def each_run(*names: str) -> pytest.MarkDecorator:
    """With each run of each release, or each of those that have these names."""
    pairs = [(release, run) for release, runs in RUNS.items() for run in runs if run in names or not names]
    return pytest.mark.parametrize(("kept", "run"), pairs, indirect=["kept"])


@pytest.fixture
def alone(kept: Kept, tmp_path: Path) -> Callable[[str], Kept]:
    """A copy of one of them, to be altered."""
    return lambda run: kept.alone(run, tmp_path)


def worst_cosine(kept: Kept, run: str, vector: str, dim: int, texts: list[str]) -> float:
    """Of the run's vectors to those that the fake model has for the texts."""
    encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model=f"fake:{dim}"))
    made = encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))
    found = np.asarray(open_run(kept.base / run).vectors(vector), np.float64)
    wanted = np.asarray(made, np.float64)
    assert found.shape == wanted.shape
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return float((np.einsum("ij,ij->i", found, wanted) / lengths).min())


@each_run()
def test_a_done_run_is_whole(kept: Kept, cli: Callable[..., Any], run: str) -> None:
    report = cli("verify", kept.base / run, "--json").json
    assert report["problems"] == []
    info = cli("info", kept.base / run, "--json").json
    assert info["chunks"]["rows"] == (LONG_ROWS if run == "int8" else SMALL_ROWS)


@pytest.mark.parametrize(
    ("run", "vector", "dim", "storage"),
    [
        ("every", "dense-a", 32, "float32"),
        ("every", "dense-b", 24, "float32"),
        ("int8", "dense-fake-16", 16, "int8"),
        ("float16", "dense-fake-16", 16, "float16"),
        ("binary", "dense-fake-16", 16, "binary"),
        ("stdin", "dense-fake-16", 16, "float32"),
    ],
)
def test_its_vectors_are_read(kept: Kept, run: str, vector: str, dim: int, storage: str) -> None:
    texts = LONG_TEXTS if run == "int8" else SMALL_TEXTS
    assert worst_cosine(kept, run, vector, dim, texts) > WORST_COSINE[storage]


def test_every_form_is_read(kept: Kept) -> None:
    run = open_run(kept.base / "every")
    assert run.vectors("ensemble-concat").shape == (SMALL_ROWS, 32 + 24 + 16)
    for name in ("sparse-bm25", "sparse-metadata", "sparse-s", "sparse-h"):
        sparse = run.vectors(name)
        assert len(sparse.indptr) == SMALL_ROWS + 1
        assert sparse.indptr[-1] == len(sparse.values) > 0
    for name in ("multivector-m", "multivector-h"):
        assert len(run.vectors(name).tokens) > 0
    assert len(run.quarantine) == REJECTED["every"]


@each_run("every", "minilm", "int8", "float16")
def test_it_is_searched(alone: Callable[[str], Kept], cli: Callable[..., Any], run: str) -> None:
    kept = alone(run)
    text = LONG_TEXTS[7] if run == "int8" else SMALL_TEXTS[7]
    hits = cli("search", kept.base / run, text, "--top-k", "3", "--json").json
    assert ("l7" if run == "int8" else "c7") in [hit["id"] for hit in hits]


def test_it_is_exported(alone: Callable[[str], Kept], cli: Callable[..., Any]) -> None:
    kept = alone("float16")
    cli("export", kept.base / "float16", "--format", "npy,jsonl,metadata")
    exported = np.load(kept.base / "float16" / "export" / "dense-fake-16.npy")
    assert exported.shape == (SMALL_ROWS, 16)
    assert cli("verify", kept.base / "float16", "--json").json["problems"] == []


@each_run("every", "minilm", "int8", "float16", "binary", "poison")
def test_the_same_command_finds_it_done(alone: Callable[[str], Kept], cli: Callable[..., Any], run: str) -> None:
    kept = alone(run)
    before = kept.stamps(run)
    done = cli(*kept.command(run, "--json"), code=3 if REJECTED[run] else 0).json
    assert done["status"] == "done"
    assert done["quarantined"] == REJECTED[run]
    assert kept.stamps(run) == before
    assert cli("verify", kept.base / run, "--json").json["problems"] == []


def test_what_is_in_quarantine_is_read(kept: Kept) -> None:
    run = open_run(kept.base / ("poison" if kept.release != "0.1.0" else "every"))
    assert len(run.quarantine) >= 3
    if kept.release != "0.1.0":
        poisoned = {row for row, text in enumerate(SMALL_TEXTS) if "adder" in text.split()}
        vectors = np.asarray(run.vectors("dense-a"))
        assert {int(row) for row in np.flatnonzero(np.isnan(vectors).any(axis=1))} == poisoned
        assert {int(row) for row in np.flatnonzero(np.isnan(run.vectors("ensemble-average")).any(axis=1))} == poisoned


@pytest.mark.parametrize("run", BROKEN)
@pytest.mark.parametrize("intake", ["done", "broken off"])
def test_an_interrupted_run_goes_on(
    alone: Callable[[str], Kept], cli: Callable[..., Any], run: str, intake: str
) -> None:
    kept = alone(run)
    if intake == "broken off":
        for name in ("intake.json", "00002.parquet"):
            (kept.base / run / "chunks" / name).unlink()
    before = kept.stamps(run)
    assert cli(*kept.command(run, "--json")).json["committed"] == LONG_ROWS
    after = kept.stamps(run)
    assert before.items() <= after.items()
    assert cli("verify", kept.base / run, "--json").json["problems"] == []
    storage = "int8" if "int8" in run else "float32"
    assert worst_cosine(kept, run, "dense-fake-16", 16, LONG_TEXTS) > WORST_COSINE[storage]


def test_a_model_is_added(alone: Callable[[str], Kept], cli: Callable[..., Any]) -> None:
    kept = alone("float16")
    before = kept.stamps("float16")
    cli(*kept.command("float16", "--dense", "more=fake:24"), code=3)
    assert before.items() <= kept.stamps("float16").items()
    run = open_run(kept.base / "float16")
    assert run.vectors("dense-more").shape == (SMALL_ROWS, 24)
    assert cli("verify", kept.base / "float16", "--json").json["problems"] == []
