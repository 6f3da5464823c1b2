"""Parse the names of fake models, `fake:DIM[,option=value…]`."""

from __future__ import annotations

from typing import Any

from ..errors import ModelError

PREFIX = "fake:"
FAKE_KINDS = ("dense", "sparse", "multivector", "bge-m3", "rerank")
"""Kinds of passes that have a fake encoder."""
LOAD_FAULTS = ("kill", "hang", "raise")
_OPTIONS = {
    "delay_ms": float,
    "depth": int,
    "kill_on": str,
    "exit_on": str,
    "nan_on": str,
    "shape_on": str,
    "hang_on": str,
    "gil_on": str,
    "prepare_on": str,
    "raise_on": str,
    "oom_above": int,
    "load": str,
}


def parse_fake(model: str) -> tuple[int, dict[str, Any]]:
    """Dimensions and options of a `fake:` model. ModelError for an invalid name."""
    head, *rest = model.removeprefix(PREFIX).split(",")
    if not head.isdecimal() or not 1 <= int(head) <= 65_536:
        raise ModelError(f"model {model!r}: give the dimension, 1 to 65536, as in fake:384")
    options: dict[str, Any] = {}
    for part in rest:
        name, _, value = part.partition("=")
        if name not in _OPTIONS or not value:
            raise ModelError(
                f"model {model!r}: option {part!r} is not one of {', '.join(f'{one}=…' for one in _OPTIONS)}"
            )
        try:
            options[name] = _OPTIONS[name](value)
        except ValueError:
            raise ModelError(f"model {model!r}: {name} must be a number, not {value!r}") from None
    if options.get("load", LOAD_FAULTS[0]) not in LOAD_FAULTS:
        raise ModelError(f"model {model!r}: load is one of {', '.join(LOAD_FAULTS)}")
    if options.get("depth", 1) < 1:
        raise ModelError(f"model {model!r}: depth is at least 1")
    return int(head), options
