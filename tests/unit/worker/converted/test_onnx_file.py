"""What is read from an ONNX file, also from one that is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.worker.formats.onnx_file import read_onnx
from embedfleet.worker.models.onnx_graph import QUANTIZED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .onnx_graphs import field, model, tensor


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def test_operators_types_and_files(tmp_path: Path) -> None:
    tensors = [tensor(1), tensor(7), tensor(1, "a.bin", 0, 40), tensor(1, "a.bin", 40, 300), tensor(1, "b.bin")]
    found = read_onnx(written(tmp_path, model("Add", "MatMul", tensors=tensors)))
    assert found.operators == {"Add", "MatMul"}
    assert found.types == {1, 7}
    assert found.external == {"a.bin": 340, "b.bin": 0}


def test_what_is_in_a_node_counts_too(tmp_path: Path) -> None:
    """A constant's tensor, and the branches of an If."""
    inner = field(1, field(4, b"MatMulInteger")) + field(5, tensor(10, "inner.bin", 8, 8))
    constant = field(4, b"Constant") + field(5, field(1, b"value") + field(5, tensor(16, "constant.bin")))
    branch = field(4, b"If") + field(5, field(6, inner))
    found = read_onnx(written(tmp_path, field(7, field(1, constant) + field(1, branch))))
    assert found.operators == {"Constant", "If", "MatMulInteger"}
    assert found.types == {10, 16}
    assert found.external == {"constant.bin": 0, "inner.bin": 16}


QUANTIZING = ("MatMulInteger", "QLinearMatMul", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits")


@pytest.mark.parametrize("operator", QUANTIZING)
def test_operators_of_quantized_graphs(operator: str) -> None:
    assert QUANTIZED.search(operator)


@pytest.mark.parametrize("operator", ["MatMul", "QuickGelu", "FusedMatMul", "SkipLayerNormalization", "Gelu"])
def test_operators_of_others(operator: str) -> None:
    assert not QUANTIZED.search(operator)


WHOLE = model("Add", "Gather", tensors=[tensor(1, "weights.bin", 0, 4_000), tensor(7)])


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_file_that_is_cut_short_is_damaged_or_still_one(tmp_path: Path, size: int) -> None:
    path = written(tmp_path, WHOLE[:size])
    with pytest.raises(ValueError, match=r"it is empty|it is damaged, or cut short|it holds no graph"):
        read_onnx(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(min_size=1, max_size=200), st.binary(max_size=100).map(lambda one: field(7, one))))
def test_no_content_raises_anything_else(tmp_path: Path, content: bytes) -> None:
    try:
        read_onnx(written(tmp_path, content))
    except ValueError as error:
        assert str(error) in ("it is damaged, or cut short", "it holds no graph")  # noqa: PT017 - or it is one


def test_graphs_without_end_are_damage(tmp_path: Path) -> None:
    graph = b""
    for _ in range(3_000):
        graph = field(1, field(4, b"If") + field(5, field(6, graph)))
    with pytest.raises(ValueError, match="it is damaged"):
        read_onnx(written(tmp_path, field(7, graph)))
