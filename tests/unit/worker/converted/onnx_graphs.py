"""ONNX graphs of tiny models, exported as people's exporters do, at the place where repositories have them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.worker.formats.onnx_file import fields

FAMILIES = {
    "dense": "SentenceTransformer",
    "sparse": "SparseEncoder",
    "multivector": "MultiVectorEncoder",
    "rerank": "CrossEncoder",
    "bge-m3": "SentenceTransformer",
}


def need_onnxruntime() -> None:
    """Skip a module of tests if it is not installed. `importorskip` would import it, and it reports its use as it is imported
    unless the package has forbidden it before."""
    if find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed", allow_module_level=True)


def export(
    folder: Path,
    kind: str = "dense",
    path: str = "onnx/model.onnx",
    *,
    output: str = "",
    whole: bool = False,
    types: bool = True,
    fixed: bool = False,
    change: Callable[[Any], Any] | None = None,
) -> Path:
    """Write the model's graph, which gives token vectors, logits, or with `whole` the sentence embedding as well. `fixed`: for
    the sizes of the example alone. `change` is applied to the first output."""
    import sentence_transformers
    import torch
    from embedfleet.worker.models.loading import modules_of

    family = getattr(sentence_transformers, FAMILIES[kind])
    loaded = family(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    modules = modules_of(loaded, None if kind == "rerank" else "document")
    model = modules[0].model.eval()
    named = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.rest = model, torch.nn.ModuleList(modules[1:])

        def forward(self, *inputs: Any) -> Any:
            found = self.model(**dict(zip(named, inputs, strict=True)), return_dict=True)
            first = found["logits"] if "logits" in found else found["last_hidden_state"]
            if not whole:
                return first if change is None else change(first)
            features: Any = {"token_embeddings": first, "attention_mask": inputs[1]}
            for module in self.rest:
                features = module(features)
            return first, features["sentence_embedding"]

    first = output or ("logits" if kind in ("sparse", "rerank") else "last_hidden_state")
    outputs = [first, "sentence_embedding"] if whole else [first]
    save(Graph(), folder / path, named, outputs, fixed=fixed)
    return folder


def save(module: Any, path: Path, inputs: Sequence[str], outputs: Sequence[str], *, fixed: bool = False) -> None:
    """Export a module that takes integers (texts, tokens)."""
    import torch

    ids = torch.arange(14).reshape(2, 7) + 1000
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    examples = tuple(given.get(name, torch.zeros_like(ids)) for name in inputs)
    axes: Any = {} if fixed else {name: {0: "texts", 1: "tokens"} for name in inputs}
    path.parent.mkdir(parents=True, exist_ok=True)
    # The exporter looks for functions of another package in the graph, and for that alone it needs the package onnx.
    nothing = SimpleNamespace(load_model_from_string=lambda _: SimpleNamespace(graph=SimpleNamespace(node=[])))
    with torch.no_grad(), warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnx", nothing)
        warnings.simplefilter("ignore")  # of tracing; the results are compared
        torch.onnx.export(
            module.eval(),
            examples,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            dynamo=False,
            opset_version=17,
        )


def field(number: int, content: bytes | int) -> bytes:
    """A field of a protocol buffer: bytes, or a small number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def tensor(kind: int = 1, location: str = "", offset: int = 0, length: int = 0) -> bytes:
    """A TensorProto of a type, whose data may be in another file."""
    places = {"location": location, "offset": str(offset), "length": str(length)} if location else {}
    entries = (field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in places.items())
    return field(2, kind) + b"".join(entries)


def model(*operators: str, tensors: Sequence[bytes] = ()) -> bytes:
    """A ModelProto with such nodes and initializers."""
    nodes = b"".join(field(1, field(4, one.encode())) for one in operators)
    return field(1, 9) + field(7, nodes + b"".join(field(5, one) for one in tensors))


def split_weights(path: Path) -> Path:
    """Move the larger weights of a graph into a file beside it, and return that."""
    beside = path.with_name(f"{path.name}_data")
    weights = bytearray()

    def moved(one: bytes) -> bytes:
        raw = [bytes(value) for number, value in fields(memoryview(one)) if number == 9]
        if not raw or len(raw[0]) < 64:
            return field(5, one)
        kept = b"".join(field(number, _plain(value)) for number, value in fields(memoryview(one)) if number != 9)
        places = {"location": beside.name, "offset": str(len(weights)), "length": str(len(raw[0]))}
        weights.extend(raw[0])
        entries = (field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in places.items())
        return field(5, kept + b"".join(entries) + field(14, 1))

    def graph(one: bytes) -> bytes:
        parts = (
            moved(bytes(value)) if number == 5 else field(number, _plain(value))
            for number, value in fields(memoryview(one))
        )
        return field(7, b"".join(parts))

    whole = memoryview(path.read_bytes())
    path.write_bytes(
        b"".join(
            graph(bytes(value)) if number == 7 else field(number, _plain(value)) for number, value in fields(whole)
        )
    )
    beside.write_bytes(weights)
    return beside


def _plain(value: Any) -> bytes | int:
    return value if isinstance(value, int) else bytes(value)
