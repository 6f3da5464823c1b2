"""Whether a loaded model has its weights from its files: the rest is random, which the reference says in a log alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import ModelError
from ..model_files import ModelFiles


@dataclass(frozen=True, slots=True)
class Lacking:
    """A model that transformers has loaded, and the names of its weights that no file had."""

    model: Any
    names: tuple[str, ...]


@contextmanager
def lacking_weights() -> Generator[list[Lacking]]:
    """Gathers what transformers says of every model that it loads meanwhile, after its renamings, ties and conversions."""
    from transformers import PreTrainedModel

    reference: Any = PreTrainedModel.__dict__["from_pretrained"]
    found: list[Lacking] = []

    def from_pretrained(cls: Any, *args: Any, output_loading_info: bool = False, **options: Any) -> Any:
        loaded = reference.__func__(cls, *args, output_loading_info=True, **options)
        if not isinstance(loaded, tuple):  # a class with a method of its own, which asks for no more
            return loaded
        model, about = loaded
        found.append(Lacking(model, tuple(sorted(about.get("missing_keys", ())))))
        return loaded if output_loading_info else model

    loader: Any = PreTrainedModel
    loader.from_pretrained = classmethod(from_pretrained)
    try:
        yield found
    finally:
        loader.from_pretrained = reference


def check_filled(loaded: list[Lacking], files: ModelFiles, family: str) -> None:
    """ModelError where weights that the model's numbers depend on are in no file."""
    for one in loaded:
        if type(one.model).__module__.startswith("transformers_modules."):
            continue  # a model's own code may fill what it likes
        names = [name for name in one.names if family == "CrossEncoder" or not _is_pooler(name)]
        if names:
            total = sum(1 for _ in one.model.named_parameters())
            raise ModelError(
                f"model {files.name}: {files.folder} holds {total - len(names)} of the {total} weights that a "
                f"{type(one.model).__name__} has, and the others would be random ({', '.join(names[:3])}"
                f"{' and more' if len(names) > 3 else ''}); its config.json and its weights are of two models: get both anew"
            )


def _is_pooler(name: str) -> bool:
    """Of a layer over the first token that sentence-transformers makes no use of, and that many models are saved without."""
    return "pooler" in name.split(".")
