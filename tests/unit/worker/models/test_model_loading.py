"""What is said of a model that a library cannot load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.models.loading import load, summarize_error

from .... import tiny_models
from ....model_folders import config
from ....optional_packages import Lazy, need

need("torch", "sentence_transformers")
torch: Any = Lazy("torch")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"vocab_size": 10},
            "its weights have other shapes than its config.json says; put the two that belong together",
        ),
        ({"hidden_act": "nope"}, r"cannot be loaded from .*: KeyError\('nope'\)"),
    ],
)
def test_a_config_of_another_model(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    folder = tiny_models.bert(tmp_path / "model")
    config(**changes)(folder)
    with pytest.raises(ModelError, match=words):
        load("SentenceTransformer", tiny_models.spec_of(folder), tiny_models.files_of(folder), torch.float32)


def test_an_error_without_words_has_its_name() -> None:
    assert summarize_error(AssertionError()) == "AssertionError()"
    assert summarize_error(ValueError("one\ntwo")) == "one"
