"""Read from an ONNX file its operators, the types of its weights, and the names of other files that hold weights.

ONNX Runtime reports none of this. The file is a protocol buffer; a few fields are read, and the weights are skipped.
Source: onnx/onnx.proto of github.com/onnx/onnx, and protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Value = int | memoryview
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
"""Kinds of fields: a number, eight bytes, bytes of a length, four bytes."""
GRAPH = 7
NODE, INITIALIZER = 1, 5
OPERATOR, ATTRIBUTE = 4, 5
TENSOR, SUBGRAPH, TENSORS, SUBGRAPHS = 5, 6, 10, 11
DATA_TYPE, EXTERNAL = 2, 13
KEY, CONTENT = 1, 2
"""Numbers of fields, in the order of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, StringStringEntryProto."""


@dataclass(slots=True)
class OnnxContent:
    """The operators; the types of weights, by their numbers in ONNX; and the other files, with the last byte that is used."""

    operators: set[str] = field(default_factory=set[str])
    types: set[int] = field(default_factory=set[int])
    external: dict[str, int] = field(default_factory=dict[str, int])


def read_onnx(path: Path) -> OnnxContent:
    """The content of a file. ValueError if it is not an ONNX model, OSError if it cannot be read."""
    found = OnnxContent()
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        graphs = [value for number, value in fields(memoryview(mapped)) if number == GRAPH]
        for graph in graphs:
            _read_graph(graph, found)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("it is damaged, or cut short") from error
    if len(graphs) != 1:
        raise ValueError("it holds no graph")
    return found


def _read_graph(graph: Value, found: OnnxContent) -> None:
    for number, value in fields(graph):
        if number == NODE:
            _read_node(value, found)
        elif number == INITIALIZER:
            _read_tensor(value, found)


def _read_node(node: Value, found: OnnxContent) -> None:
    for number, value in fields(node):
        if number == OPERATOR:
            found.operators.add(_text(value))
        elif number == ATTRIBUTE:
            for inner, held in fields(value):
                if inner in (SUBGRAPH, SUBGRAPHS):
                    _read_graph(held, found)
                elif inner in (TENSOR, TENSORS):
                    _read_tensor(held, found)


def _read_tensor(tensor: Value, found: OnnxContent) -> None:
    place: dict[str, str] = {}
    for number, value in fields(tensor):
        if number == DATA_TYPE and isinstance(value, int):
            found.types.add(value)
        elif number == EXTERNAL:
            entry = dict(fields(value))
            place[_text(entry[KEY])] = _text(entry[CONTENT])
    if "location" in place:
        end = int(place.get("offset", 0)) + int(place.get("length", 0))
        found.external[place["location"]] = max(end, found.external.get(place["location"], 0))


def _text(value: Value) -> str:
    return bytes(_as_bytes(value)).decode()


def _as_bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where bytes should be")
    return value


def fields(data: Value) -> Iterator[tuple[int, Any]]:
    """The fields of a message by their numbers. Bytes are views."""
    whole, at = _as_bytes(data), 0
    while at < len(whole):
        key, at = _varint(whole, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(whole, at)
            yield key >> 3, value
            continue
        size = {EIGHT: 8, FOUR: 4}.get(kind, 0)
        if kind == BYTES:
            size, at = _varint(whole, at)
        elif not size:
            raise IndexError("no such kind of field")
        if at + size > len(whole):
            raise IndexError("it ends within a field")
        yield key >> 3, whole[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number with seven bits per byte, the lowest first, and where it ends."""
    found = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    raise IndexError("a number without end")
