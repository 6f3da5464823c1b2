"""Models that cannot be used, through the command line: one clear error before a device is leased, and what comes after."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedfleet import Client, PassSpec, RunSpec, open_run

from ..model_folders import SPOILED, config, save
from ..model_hub import serving
from ..optional_packages import need

need("sentence_transformers")


FLAGS = {
    "dense": ("--dense",),
    "sparse": ("--no-fallback", "--sparse"),
    "multivector": ("--multivector",),
    "bge-m3": ("--heads",),
    "rerank": ("--queries", "corpus.jsonl", "--rerank"),
}
TEXTS = ["one text", "another text", "a third"]
CASES = (
    "pickled weights",
    "a dense model as sparse",
    "a dense model as multivector",
    "a dense model as bge-m3",
    "a dense model as reranker",
)
"""Of the ways to spoil a model, one for each flag that a model is given with. All of them are tried at once, below."""


@pytest.fixture
def place(tmp_path: Path, corpus_of: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with corpus.jsonl, and no hub within reach."""
    corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(cli: Any, place: Path) -> Callable[..., Any]:
    """Runs `embedfleet run` over the corpus into `place / "run"`."""

    def call(*args: str | Path, code: int = 0, index: str = "none") -> Any:
        options = ("--out", "run", "--devices", "cpu", "--index", index)
        return cli("run", "corpus.jsonl", *options, *args, code=code, cwd=place)

    return call


@pytest.fixture
def leases(place: Path, read_events: Any) -> Callable[[], list[str]]:
    """The vectors that a device was leased for so far."""
    return lambda: [one["vector"] for one in read_events(place / "run") if one["event"] == "lease"]


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_cannot_be_used_is_refused_before_a_lease(run: Any, leases: Any, place: Path, case: str) -> None:
    spoil, kind, wrong, remedy = SPOILED[case]
    spoil(save(place / "a-model"))
    flags = FLAGS[kind]
    index = "edge" if kind == "rerank" else "none"
    error = run("--dense", "fake:8", *flags, "a-model", code=2, index=index).error
    assert all(words in error for words in ("a-model", wrong, remedy))
    assert leases() == []
    assert not (place / "run").exists(), "nothing was begun that would have to be resumed or cleared"


def test_all_that_cannot_be_used_are_named_in_one_error(run: Any, leases: Any, place: Path) -> None:
    flags: list[str] = ["--no-fallback", "--dense", "fake:8"]
    for number, (spoil, kind, _, _) in enumerate(SPOILED.values()):
        if kind != "rerank":
            spoil(save(place / f"m{number:02}"))
            flags += [FLAGS[kind][-1], f"m{number:02}"]
    error = run(*flags, code=2).error
    for number, (_, kind, wrong, remedy) in enumerate(SPOILED.values()):
        if kind != "rerank":
            (mine,) = [part for part in error.split("; model ") if f"m{number:02}" in part]
            assert wrong in mine
            assert remedy in mine
    assert leases() == []
    assert not (place / "run").exists(), "nothing was begun that would have to be resumed or cleared"


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert place.exists()  # its environment comes first
    with serving() as given:
        monkeypatch.setenv("HF_ENDPOINT", given.url)
        yield


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("good/model@v9", "the hub has no revision 'v9'; give a branch, tag or commit that it has"),
        ("good/nothing", "the hub has no such repository"),
        ("good/pickled", "the repository has no safetensors weights"),
        ("good/code", "--trust-remote-code"),
    ],
)
def test_what_the_hub_has_not_is_refused_before_a_lease(run: Any, leases: Any, model: str, words: str) -> None:
    error = run("--dense", "fake:8", "--dense", model, code=2).error
    assert words in error
    assert model.partition("@")[0] in error
    assert leases() == []


def test_a_hub_out_of_reach_is_said_before_a_lease(run: Any, leases: Any) -> None:
    error = run("--dense", "fake:8", "--dense", "some/model", code=2).error
    assert "not in the hub's cache, and the hub cannot be reached" in error
    assert "embedfleet models pull some/model" in error
    assert leases() == []


def test_a_signal_does_not_wait_for_a_hub(
    start: Any, place: Path, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        corpus, out = place / "corpus.jsonl", place / "run"
        started = start("run", corpus, "--out", out, "--devices", "cpu", "--index", "none", "--dense", "some/model")
        started.child("embedfleet.worker.models.check")
        waiting.eventually(lambda: "opening" in started.err or "waiting" in started.err, what="the watch")
        started.signal(signal.SIGINT)
        started.wait(130, 5)
        started.all_gone(2.0)
    assert not out.exists()


def test_a_refused_model_leaves_a_done_run_as_it_is(run: Any, place: Path) -> None:
    run("--dense", "fake:8")
    manifest = (place / "run" / "manifest.json").read_bytes()
    assert "Did you mean bge-m3?" in run("--dense", "fake:8", "--dense", "bge-m4", code=2).error
    assert (place / "run" / "manifest.json").read_bytes() == manifest


def test_a_mistyped_sparse_model_costs_nothing_and_the_corrected_command_is_taken(
    run: Any, leases: Any, place: Path
) -> None:
    error = run("--dense", "fake:64", "--sparse", "bm52", code=2).error
    assert "model 'bm52'" in error
    assert "Did you mean bm25?" in error
    assert leases() == []
    pytest.importorskip("qdrant_edge")
    run("--dense", "fake:64", "--sparse", "bm25")
    assert open_run(place / "run").vector_names == ("dense-fake-64", "sparse-bm25")


def weighted(place: Path) -> None:
    """A corpus whose chunks have weights of their own."""
    weights = {"sparse_features": {"term_weights": [{"term": "word", "weight": 0.5}]}}
    lines = (json.dumps({"id": f"c{row}", "text": text, "metadata": weights}) for row, text in enumerate(TEXTS))
    (place / "corpus.jsonl").write_text("\n".join(lines) + "\n")


def test_the_weights_of_the_metadata_stand_in_without_a_lease(run: Any, leases: Any, place: Path) -> None:
    weighted(place)
    spoil, _, wrong, _ = SPOILED["weights cut short"]
    spoil(save(place / "a-model", "BertForMaskedLM"))
    done = run("--dense", "fake:8", "--sparse", "a-model")
    assert wrong in done.err
    assert set(leases()) == {"dense-fake-8"}
    found = open_run(place / "run")
    assert found.vectors("sparse-a-model").indices.size == len(TEXTS)
    refused = run("--dense", "fake:8", "--sparse", "a-model", "--no-fallback", code=2).error
    assert "sparse-a-model.fallback" in refused, "what was committed stands, and its model is not asked for"


def segments(place: Path, vector: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (place / "run" / "vectors" / vector).glob("*.parquet")}


def test_a_pass_that_never_wrote_gives_way_and_the_others_are_kept(run: Any, cli: Any, place: Path) -> None:
    pytest.importorskip("qdrant_edge")
    run("--dense", "fake:8", "--dense", "fake:9,load=raise", code=1, index="edge")
    kept = segments(place, "dense-fake-8")
    assert kept
    run("--dense", "fake:8", "--dense", "fake:10", index="edge")
    assert segments(place, "dense-fake-8") == kept
    assert not (place / "run" / "vectors" / "dense-fake-9").exists()
    refused = run("--dense", "fake:8", "--dense", "fake:11", code=2, index="edge").error
    assert "passes: dense-fake-10 is gone" in refused
    # A vector more for a run that is done: the shard has them all, too.
    run("--dense", "fake:8", "--dense", "fake:10", "--sparse", "bm25", index="edge")
    assert segments(place, "dense-fake-8") == kept
    assert cli("verify", place / "run", "--json").json["ok"] is True
    (hit,) = cli("search", place / "run", TEXTS[1], "--top-k", "1", "--json").json
    assert hit["id"] == "c1"
    assert {"dense-fake-8", "dense-fake-10", "sparse-bm25"} == set(hit["scores"])


def test_where_the_check_crashes_the_worker_refuses(
    run: Any, leases: Any, place: Path, read_events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(place / "a-model")
    config(auto_map={"AutoModel": "m.M"})(place / "a-model")
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(
        "import os, sys\nif 'embedfleet.worker.models.check' in sys.orig_argv:\n    os._exit(9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(place / "site"), prepend=":")
    done = run("--dense", "a-model", code=2)
    assert "--trust-remote-code" in done.error
    assert "could not be looked at beforehand: the check ended with exit code 9" in done.err
    assert set(leases()) == {"dense-a-model"}
    (told,) = [one for one in read_events(place / "run") if one["event"] == "models_unchecked"]
    assert told["reason"] == "the check ended with exit code 9."


def test_where_all_devices_are_elsewhere_the_models_may_be_too(
    start: Any, folder: Path, place: Path, leases: Any
) -> None:
    address = f"ipc://{folder}"
    start("serve", "--bind", address, "--no-devices")
    spec = RunSpec(
        source=str(place / "corpus.jsonl"),
        passes=(PassSpec(vector="dense-a", kind="dense", model=str(place / "not here")),),
        index="none",
    )
    with Client(address, timeout=30) as client:
        watched = client.watch(client.submit(spec, place / "run"))
        assert next(one for one in watched if one.status != "opening").status == "running"
        start("worker", "--connect", address, "--devices", "cpu")
        *_, end = watched
    assert (end.status, end.kind) == ("failed", "ModelError")
    assert set(leases()) == {"dense-a"}
