"""Models of the size of all-MiniLM-L6-v2 for each kind, made from its weights, and texts of three lengths."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path
from typing import Any

KINDS = ("dense", "sparse", "multivector", "rerank")
SHORT, LONG = 20, 400
"""Words of a text: about 32 and 512 tokens with what the tokenizer makes of names."""
TERMS = 800
"""Words of the vocabulary that the made SPLADE model may activate: a trained one activates some hundred in a text."""


def make(kind: str, folder: Path, name: str = "all-MiniLM-L6-v2") -> Path:
    """The folder of a model of this kind, made at the first call."""
    from embedfleet.protocol.spec.run_spec import PassSpec
    from embedfleet.worker.models.locate import find_model

    source = find_model(PassSpec(vector="made", kind="dense", model=name)).folder
    if kind == "dense":
        return source
    if not folder.exists():
        {"sparse": _splade, "multivector": _colbert, "rerank": _cross_encoder}[kind](source, folder)
    return folder


def texts_of_length(length: str, count: int) -> list[str]:
    """Docstrings of the standard library: cut to SHORT words, as they are, or joined to LONG words."""
    found = _docstrings()
    words = " ".join(found).split()
    match length:
        case "short":
            return [" ".join(words[start : start + SHORT]) for start in _starts(len(words), SHORT, count)]
        case "long":
            return [" ".join(words[start : start + LONG]) for start in _starts(len(words), LONG, count)]
        case _:
            step = max(1, len(found) // count)
            return found[::step][:count]


def _starts(words: int, size: int, count: int) -> range:
    step = max(1, (words - size) // count)
    return range(0, words - size, step)[:count]


def _docstrings() -> list[str]:
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) > 60:
                    found.append(text)
    return found


def _splade(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForMaskedLM

    torch.manual_seed(7)
    model = BertForMaskedLM.from_pretrained(str(source))
    with torch.no_grad():
        model.cls.predictions.bias.fill_(-1e4)
        model.cls.predictions.bias[torch.randperm(model.config.vocab_size)[:TERMS]] = 0.0
    _save(model, AutoTokenizer.from_pretrained(str(source)), folder)


def _cross_encoder(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(7)
    model = BertForSequenceClassification.from_pretrained(str(source), num_labels=1)
    _save(model, AutoTokenizer.from_pretrained(str(source)), folder)


def _colbert(source: Path, folder: Path) -> None:
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    torch.manual_seed(7)
    backbone = Transformer(str(source), max_seq_length=256)
    projection = Dense(384, 128, bias=False, activation_function=None, module_input_name="token_embeddings")
    modules: list[Any] = [backbone, projection, MultiVectorMask([]), Normalize("token_embeddings")]
    MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(str(folder))
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(str(folder))
