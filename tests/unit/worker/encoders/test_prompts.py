"""The prompts before documents and queries are those that sentence-transformers' encode_document and encode_query take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.models.check import check_model
from embedfleet.worker.models.texts import query_prompt

from .... import model_folders, tiny_models
from ....tiny_models import TEXTS, files_of, spec_of

SHORT = list(TEXTS[:4])
CONFIG = "config_sentence_transformers.json"

SAVED = {
    "an empty document prompt beside a default one": ({"query": "query: ", "document": ""}, "query"),
    "an empty query prompt beside a default one": ({"query": "", "document": "text: "}, "document"),
    "a default prompt of another name": ({"default": "text: ", "query": ""}, "default"),
    "no document prompt": ({"query": "query: "}, "query"),
    "an empty document prompt beside passage": ({"document": "", "passage": "passage: "}, None),
    "a document prompt of null": ({"query": "query: ", "document": None}, "query"),
    "no prompts": ({}, None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return whole(tmp_path_factory.mktemp("prompts") / "model")


def whole(folder: Path) -> Path:
    from sentence_transformers import SentenceTransformer

    plain = tiny_models.bert(folder.parent / "plain")
    SentenceTransformer(str(plain), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def prompted(folder: Path, prompts: Any, default: str | None) -> Path:
    path = folder / CONFIG
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(settings | {"prompts": prompts, "default_prompt_name": default}))
    return folder


def encoder_of(folder: Path) -> Any:
    from embedfleet.worker.encoders.dense import DenseEncoder

    return DenseEncoder(spec_of(folder), files_of(folder), "cpu", 1)


@pytest.mark.parametrize("name", SAVED)
def test_both_sides_are_the_reference_s(folder: Path, name: str) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = encoder_of(prompted(folder, *SAVED[name]))
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found = encoder.compute(encoder.prepare(SHORT), np.arange(len(SHORT), dtype=np.int32))
    np.testing.assert_allclose(found, model.encode_document(SHORT, normalize_embeddings=True), rtol=0, atol=1e-5)
    expected = model.encode_query(SHORT, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.queries(SHORT, None), expected, rtol=0, atol=1e-5)
    assert encoder.fingerprint.query_prompt == encoder.query_prompt() == query_prompt(folder, encoder.fingerprint.model)


def test_a_passage_prompt_counts_where_there_is_no_document_prompt(folder: Path) -> None:
    """As the reference's encode_document is described; its code passes over it, having made up an empty document prompt."""
    encoder = encoder_of(prompted(folder, {"query": "query: ", "passage": "passage: "}, "query"))
    assert (encoder.fingerprint.prompt, encoder.query_prompt()) == ("passage: ", "query: ")
    assert encoder_of(prompted(folder, {"corpus": "c: "}, None)).fingerprint.prompt == "c: "


def test_the_same_for_learned_sparse_vectors(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from embedfleet.worker.encoders.sparse import SparseVectorGenerator
    from sentence_transformers import SparseEncoder

    plain = tiny_models.splade(tmp_path / "plain")
    SparseEncoder(str(plain), device="cpu").save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    folder = prompted(tmp_path / "whole", {"query": "query: ", "document": ""}, "query")
    encoder: Any = SparseVectorGenerator(spec_of(folder), files_of(folder), "cpu", 1)
    assert (encoder.fingerprint.prompt, encoder.query_prompt()) == ("", "query: ")


def test_a_catalogued_prompt_counts_where_the_file_has_empty_ones(tmp_path: Path) -> None:
    """The reference writes empty ones into whatever it saves."""
    pytest.importorskip("sentence_transformers")
    folder = prompted(whole(tmp_path / "e5-small-v2"), {"query": "", "document": ""}, None)
    encoder = encoder_of(folder)
    assert (encoder.fingerprint.prompt, encoder.query_prompt()) == ("passage: ", "query: ")
    assert query_prompt(folder, encoder.fingerprint.model) == encoder.fingerprint.query_prompt == "query: "


@pytest.mark.parametrize(
    ("prompts", "default", "what"),
    [
        (None, None, "'prompts' in .*config_sentence_transformers.json is null; make it an object"),
        (["query: "], None, "'prompts' in .* is ..query: ..; make it an object"),
        ({"query": 3}, None, "prompt 'query' in .* is 3; give a text"),
        ({"query": "q: "}, "absent", r"'default_prompt_name' in .* is 'absent'.*there are: query, document\)"),
        ({}, "web", r"'default_prompt_name' in .* is 'web'.*correct it, or make it null"),
    ],
)
def test_prompts_that_the_reference_ends_with_are_refused_first(
    tmp_path: Path, prompts: Any, default: str | None, what: str
) -> None:
    folder = prompted(model_folders.save(tmp_path / "model"), prompts, default)
    model_folders.modules("sentence_transformers.models.Transformer")(folder)
    with pytest.raises(ModelError, match=what):
        check_model(spec_of(folder))


def test_a_default_prompt_that_the_reference_makes_up_is_well(tmp_path: Path) -> None:
    folder = prompted(model_folders.save(tmp_path / "model"), {}, "document")
    model_folders.modules("sentence_transformers.models.Transformer")(folder)
    check_model(spec_of(folder))
