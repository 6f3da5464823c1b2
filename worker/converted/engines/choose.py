"""Opens the engine that a conversion is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....protocol.wire.arrays import Array
from ...models.locate import ModelFiles
from ..cache import HEAD
from ..record import ModelRecord
from .engine import Engine
from .onnx_engine import OnnxEngine
from .openvino_engine import OpenVinoEngine


def open_engine(record: ModelRecord, files: ModelFiles, folder: Path, threads: int, dtype: str) -> Engine:
    """Open the engine of the conversion in `folder`, of the model in `files`. ModelError or RuntimeError if that fails."""
    if record.exported is None:
        return OpenVinoEngine(folder, dtype, threads)
    return OnnxEngine(files.folder / record.exported.path, record, load_head(folder), threads)


def load_head(folder: Path) -> dict[str, Array]:
    """The weights of the steps that follow a graph."""
    with np.load(folder / HEAD, allow_pickle=False) as stored:
        return dict(stored)
