"""Folders that look like saved models, written without torch; and the ways to spoil one."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WIDTH = 8
TENSORS = {"embeddings.word_embeddings.weight": (12, WIDTH), "encoder.layer.0.output.dense.weight": (WIDTH, WIDTH)}


def safetensors(tensors: Mapping[str, tuple[int, ...]] = TENSORS, **changes: Any) -> bytes:
    """A file of float32 zeros; `changes` overrides fields of the first tensor's entry."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, shape in tensors.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [reached, reached + size]}
        reached += size
    header[next(iter(tensors))] |= changes
    return packed(json.dumps(header).encode(), bytes(reached))


def packed(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def save(folder: Path, architecture: str = "BertModel") -> Path:
    """A model as transformers saves it: config, weights, tokenizer."""
    folder.mkdir(parents=True)
    config = {"model_type": "bert", "architectures": [architecture], "hidden_size": WIDTH, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors())
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}}))
    return folder


def config(**changes: Any) -> Callable[[Path], None]:
    """Change fields of config.json; None takes one out."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        settings = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))

    return change


def file(name: str, content: bytes | str) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes(content.encode() if isinstance(content, str) else content))


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: void((folder / old).rename(folder / new))


def cut(name: str, n_bytes: int) -> Callable[[Path], None]:
    """Take bytes off the end."""
    return lambda folder: void((folder / name).write_bytes((folder / name).read_bytes()[:-n_bytes]))


def void(_result: object) -> None:
    pass


def modules(*types: str) -> Callable[[Path], None]:
    return file(
        "modules.json", json.dumps([{"idx": n, "name": str(n), "path": "", "type": one} for n, one in enumerate(types)])
    )


def with_dense(name: str, content: bytes | str) -> Callable[[Path], None]:
    """Another module, Dense, with one file in its folder."""

    def add(folder: Path) -> None:
        types = {"": "Transformer", "2_Dense": "Dense"}
        saved = [{"path": path, "type": f"sentence_transformers.models.{one}"} for path, one in types.items()]
        (folder / "modules.json").write_text(json.dumps(saved))
        (folder / "2_Dense").mkdir()
        file("2_Dense/config.json", json.dumps({"in_features": WIDTH, "out_features": WIDTH}))(folder)
        file(f"2_Dense/{name}", content)(folder)

    return add


def both(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: void((first(folder), second(folder)))


SPOILED: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    "no config": (without("config.json"), "dense", "config.json", "give the folder of a saved model"),
    "config is cut": (file("config.json", '{"a":'), "dense", "config.json is not JSON", "copy it again"),
    "config is a list": (file("config.json", "[]"), "dense", "config.json is not a JSON object", "copy it again"),
    "config is nested": (file("config.json", "[" * 100_000), "dense", "config.json is not JSON", "copy it again"),
    "config is not UTF-8": (file("config.json", b'{"a":"\xff"}'), "dense", "config.json is not JSON", "copy it again"),
    "no model_type": (config(model_type=None), "dense", "config.json names no model_type", "give the folder"),
    "limit of the tokenizer is a text": (
        file("tokenizer_config.json", '{"model_max_length": "512"}'),
        "dense",
        "model_max_length in ",
        "is '512'; make it a number, or null",
    ),
    "limit of the module is a list": (
        file("sentence_bert_config.json", '{"max_seq_length": [256]}'),
        "rerank",
        "max_seq_length in ",
        "is [256]; make it a number, or null",
    ),
    "modules is cut": (file("modules.json", "[{"), "dense", "modules.json is not JSON", "copy it again"),
    "modules is an object": (file("modules.json", "{}"), "dense", "modules.json is not a list", "copy it again"),
    "modules has no type": (
        file("modules.json", "[{}]"),
        "dense",
        "modules.json has a module without",
        "copy it again",
    ),
    "auto_map": (config(auto_map={"AutoModel": "m.M"}), "dense", "auto_map in config.json", "--trust-remote-code"),
    "auto_map of the tokenizer": (
        file("tokenizer_config.json", '{"auto_map":{"AutoTokenizer":["m.T",null]}}'),
        "dense",
        "auto_map in tokenizer_config.json",
        "--trust-remote-code",
    ),
    "auto_map of a module": (
        with_dense("config.json", '{"auto_map":{"AutoModel":"m.M"}}'),
        "dense",
        "auto_map in 2_Dense/config.json",
        "--trust-remote-code",
    ),
    "a module of its own": (modules("mine.Mine"), "dense", "mine.Mine in modules.json", "--trust-remote-code"),
    "pickled weights": (
        renamed("model.safetensors", "pytorch_model.bin"),
        "dense",
        "no safetensors",
        "save_pretrained()",
    ),
    "a module's pickled weights": (
        with_dense("pytorch_model.bin", "pickled"),
        "dense",
        "2_Dense/pytorch_model.bin",
        "save_pretrained()",
    ),
    "the first module's pickled weights": (
        both(with_dense("model.safetensors", safetensors()), renamed("model.safetensors", "pytorch_model.bin")),
        "dense",
        ": pytorch_model.bin of",
        "save_pretrained()",
    ),
    "weights cut short": (
        cut("model.safetensors", 100),
        "dense",
        "model.safetensors is damaged: it is cut",
        "copy it again",
    ),
    "weights cut in the header": (
        file("model.safetensors", safetensors()[:50]),
        "dense",
        "is damaged: it is cut",
        "copy",
    ),
    "weights empty": (file("model.safetensors", b""), "dense", "is damaged: it is cut short: 0 bytes", "copy it again"),
    "weights too long": (file("model.safetensors", safetensors() + b"x"), "dense", "1 bytes follow its last", "copy"),
    "header is garbage": (file("model.safetensors", packed(b"x" * 50, b"")), "dense", "its header is damaged", "copy"),
    "header is nested": (
        file("model.safetensors", packed(b'{"a":' + b"[" * 100_000, b"")),
        "dense",
        "its header is damaged",
        "copy",
    ),
    "header is huge": (
        file("model.safetensors", packed(b"{}", b"", 1 << 62)),
        "dense",
        "is damaged: it is cut",
        "copy",
    ),
    "header is a page of a web site": (
        file("model.safetensors", "<!DOCTYPE html><p>404"),
        "dense",
        "is damaged",
        "copy",
    ),
    "a pointer of git lfs": (
        file("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
        "dense",
        "is damaged",
        "copy",
    ),
    "a tensor of another size": (
        file("model.safetensors", safetensors(shape=[13, WIDTH])),
        "dense",
        "does not have the bytes of its shape",
        "copy",
    ),
    "a tensor of a negative size": (
        file("model.safetensors", safetensors(shape=[-12, -WIDTH])),
        "dense",
        "has an impossible shape",
        "copy",
    ),
    "tensors that overlap": (
        file("model.safetensors", safetensors(data_offsets=[4, 388])),
        "dense",
        "does not have the bytes",
        "copy",
    ),
    "a shard is missing": (
        both(
            file("model.safetensors.index.json", '{"weight_map":{"a":"other.safetensors"}}'),
            without("model.safetensors"),
        ),
        "dense",
        "other.safetensors is missing",
        "copy",
    ),
    "the index is damaged": (
        both(file("model.safetensors.index.json", "{}"), without("model.safetensors")),
        "dense",
        "index.json is damaged",
        "copy",
    ),
    "weights of another model": (config(hidden_size=9), "dense", "a width of 9", "put the two that belong together"),
    "no tokenizer": (without("tokenizer.json"), "dense", "has no tokenizer", "Save the tokenizer there"),
    "tokenizer is cut": (file("tokenizer.json", '{"model":'), "dense", "tokenizer.json is damaged", "copy it again"),
    "tokenizer is none": (file("tokenizer.json", "{}"), "dense", "tokenizer.json is damaged", "copy it again"),
    "a module's folder is missing": (
        file(
            "modules.json",
            '[{"path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling",'
            '"type":"sentence_transformers.models.Pooling"}]',
        ),
        "dense",
        "1_Pooling is not there",
        "get the folder again",
    ),
    "an adapter without its base": (
        both(
            file("adapter_config.json", '{"peft_type":"LORA","base_model_name_or_path":"someone/base"}'),
            without("config.json", "model.safetensors"),
        ),
        "dense",
        "is an adapter (LORA) for someone/base",
        "merge it into its base",
    ),
    "a model for the dot product": (
        file("config_sentence_transformers.json", '{"similarity_fn_name":"dot"}'),
        "dense",
        "comparison by dot product",
        "give --normalize",
    ),
    "a model for images": (
        config(model_type="clip"),
        "dense",
        "for images and their captions",
        "give a model for texts",
    ),
    "a cross-encoder as dense": (
        config(architectures=["BertForSequenceClassification"]),
        "dense",
        "is no embedding model",
        "use --rerank",
    ),
    "a dense model as sparse": (config(), "sparse", "is no sparse model", "Give a SPLADE model"),
    "a dense model as multivector": (config(), "multivector", "is no late-interaction model", "Give a ColBERT model"),
    "a dense model as reranker": (config(), "rerank", "is no reranker", "Give a cross-encoder"),
    "a dense model as bge-m3": (config(), "bge-m3", "has no sparse_linear.pt", "use --dense"),
}
"""By name: what is done to a good folder, the kind of the pass, what is wrong, and what to do about it."""
