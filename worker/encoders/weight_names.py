"""Whether a loaded model has its weights from its files: the rest is random, which the reference says in a log alone."""

from __future__ import annotations

from typing import Any

from ...protocol.errors import ModelError
from ..model_files import ModelFiles
from ..safetensors_header import read_tensors

LEAST = 0.5
"""Part of a model's parameters that its files must name. Some are renamed on loading, tied, or left out (poolers)."""


def check_filled(model: Any, files: ModelFiles) -> None:
    """ModelError where the files hold the weights of another architecture."""
    names: set[str] = set()
    for path in files.folder.rglob("*.safetensors"):
        names.update(read_tensors(path))
    for module in model.modules():
        backbone: Any = getattr(module, "auto_model", None)
        if backbone is None:
            continue
        prefix = f"{getattr(backbone, 'base_model_prefix', '')}."
        wanted = [name for name, _ in backbone.named_parameters()]
        found = sum(one in names or prefix + one in names or one.removeprefix(prefix) in names for one in wanted)
        if found < LEAST * len(wanted):
            raise ModelError(
                f"model {files.name}: {files.folder} holds {found} of the {len(wanted)} weights that a "
                f"{type(backbone).__name__} has, and the others would be random; its config.json and its weights are of "
                "two models: get both anew"
            )
