"""Check that a loaded model has all its weights from files: transformers only logs that missing ones are random."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import ModelError
from .locate import ModelFiles


@dataclass(frozen=True, slots=True)
class MissingWeights:
    """A model that transformers has loaded, and the names of its weights that no file has."""

    model: Any
    names: tuple[str, ...]


@contextmanager
def watch_missing_weights() -> Generator[list[MissingWeights]]:
    """Collect the missing weights of every model that transformers loads in this context, after its own renamings and ties."""
    from transformers import PreTrainedModel

    reference: Any = PreTrainedModel.__dict__["from_pretrained"]
    found: list[MissingWeights] = []

    def from_pretrained(cls: Any, *args: Any, output_loading_info: bool = False, **options: Any) -> Any:
        loaded = reference.__func__(cls, *args, output_loading_info=True, **options)
        if not isinstance(loaded, tuple):  # a class with its own method, which returns the model alone
            return loaded
        model, about = loaded
        found.append(MissingWeights(model, tuple(sorted(about.get("missing_keys", ())))))
        return loaded if output_loading_info else model

    loader: Any = PreTrainedModel
    loader.from_pretrained = classmethod(from_pretrained)
    try:
        yield found
    finally:
        loader.from_pretrained = reference


def check_none_missing(loaded: list[MissingWeights], files: ModelFiles, family: str) -> None:
    """Raise ModelError if weights that the results depend on are in no file."""
    for one in loaded:
        if type(one.model).__module__.startswith("transformers_modules."):
            continue  # a model's own code may initialise weights itself
        names = [name for name in one.names if family == "CrossEncoder" or not _is_pooler(name)]
        if names:
            total = sum(1 for _ in one.model.named_parameters())
            raise ModelError(
                f"model {files.name}: {files.folder} holds {total - len(names)} of the {total} weights that a "
                f"{type(one.model).__name__} has, and the others would be random ({', '.join(names[:3])}"
                f"{' and more' if len(names) > 3 else ''}); its config.json and its weights do not match: get both again"
            )


def _is_pooler(name: str) -> bool:
    """Whether a weight is of the pooler layer. sentence-transformers does not use it, and many models are saved without."""
    return "pooler" in name.split(".")
