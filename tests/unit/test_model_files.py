"""What is said of a model that cannot be found."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec import Kind, PassSpec
from embedfleet.worker import model_files


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        ("dense", "bge-m33", r"--dense: model 'bge-m33' is not a folder, .* Did you mean bge-m3\? Known: .*nomic"),
        (
            "sparse",
            "bm52",
            r"--sparse: model 'bm52' is not a folder, .* Did you mean bm25\? For sparse weights give bm25, metadata, or",
        ),
        ("sparse", "metadta", r"Did you mean metadata\?"),
        ("rerank", "./typo", "--rerank: model './typo' is not a folder"),
        ("multivector", "/no/such", "--multivector: model '/no/such' is not a folder"),
    ],
)
def test_the_flag_is_named_and_a_likely_name(kind: Kind, model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        model_files.find_model(PassSpec(vector="v", kind=kind, model=model))


def test_what_may_be_a_folder_or_a_hub_id_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(hub: str, _revision: str | None, *, offline: bool) -> None:
        if not offline:
            raise ModelError(f"model {hub}: the hub has no such repository")

    monkeypatch.setattr(model_files, "_from_hub", nothing)
    said = "--rerank: no folder 'models/nope' is here, and model models/nope: the hub has no such repository"
    with pytest.raises(ModelError, match=said):
        model_files.find_model(PassSpec(vector="v", kind="rerank", model="models/nope"))


def test_a_folder_without_a_model_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--heads: model .* has no config\.json"):
        model_files.find_model(PassSpec(vector="v", kind="bge-m3", model=str(tmp_path)))
