"""The flags of `embedfleet run` that become part of its spec, from the values of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_FLAGS = ("dense", "sparse", "multivector", "heads")
"""Parameters of the command that name models of the corpus."""
SAME_NAME = (
    *("text_field", "id_field", "title_field", "limit", "index", "dtype", "max_tokens", "prompt", "query_prompt"),
    *("trust_remote_code", "max_active_dims", "pool_factor", "truncate_dim", "normalize", "weights", "project"),
)
"""Parameters that `build_spec` takes under the same name."""
SPEC_FLAGS = (*SAME_NAME, "no_fallback", "store", "ensemble")
"""All parameters that make a spec, beside the source and the models."""


def model_values(parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """The models by flag, from a command's parameters."""
    return {name: list(parameters[name] or ()) for name in MODEL_FLAGS}


def spec_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The other arguments of `build_spec`, from a command's parameters."""
    values = {name: parameters[name] for name in SAME_NAME}
    ensembles = [str(one) for one in parameters["ensemble"] or ()]
    return values | {"fallback": not parameters["no_fallback"], "storage": parameters["store"], "ensemble": ensembles}
