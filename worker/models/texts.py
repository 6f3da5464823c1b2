"""Read a model's prompts and its stated pooling from its files, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ...protocol.errors import ModelError
from ...protocol.spec import catalog
from .kind_check import saved_modules
from .parts import read_settings

PROMPTS = "config_sentence_transformers.json"
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""In the order in which sentence-transformers looks for them."""


def declared_prompts(folder: Path) -> dict[str, str]:
    """The prompts in the model's own file, with empty ones, without null. ValueError if it is damaged."""
    path = folder / PROMPTS
    found: Any = read_settings(path).get("prompts", {}) if path.is_file() else {}
    if not isinstance(found, dict):
        return {}
    return {name: one for name, one in cast("dict[str, Any]", found).items() if isinstance(one, str)}


def document_prompt(folder: Path, prompts: Mapping[str, str], known: str) -> str:
    """A model's prompt for documents, of its `prompts` as sentence-transformers loaded them, and the catalogue's `known` one.

    Chosen as by `encode_document`: the first of DOCUMENT_PROMPTS in the model's file, even an empty one, and never the default
    prompt. One difference: sentence-transformers adds an empty `document` prompt on loading, which hides `passage` and
    `corpus`. Here these count, as its documentation says.
    """
    written = declared_prompts(folder)  # sentence-transformers adds empty ones on loading
    own = {name: one for name, one in prompts.items() if name in written}
    if known and not any(own.get(name) for name in DOCUMENT_PROMPTS):
        return known  # sentence-transformers saves empty ones with every model
    return next((own[name] for name in DOCUMENT_PROMPTS if name in own), "")


def query_prompt(folder: Path, name: str) -> str:
    """A model's own prompt for queries, from its file, or that of the catalogue. Never the default prompt."""
    written = declared_prompts(folder).get("query") if saved_modules(folder) is not None else None
    entry = catalog.find(name)
    return written or (entry.query_prompt if entry is not None else "")


def check_prompts(folder: Path, name: str, kind: str) -> None:
    """Raise ModelError, naming file and key, for prompts on which sentence-transformers would fail."""
    path = folder / PROMPTS
    if not path.is_file() or saved_modules(folder) is None:  # without modules, sentence-transformers does not read it
        return
    settings = read_settings(path)
    prompts: Any = settings.get("prompts", {})
    if not isinstance(prompts, dict):
        raise ModelError(
            f"model {name}: 'prompts' in {path} is {_shown(prompts)}; make it an object of names and texts, or {{}}"
        )
    wrong = [key for key, one in cast("dict[str, Any]", prompts).items() if not isinstance(one, str | None)]
    if wrong:
        raise ModelError(f"model {name}: prompt {wrong[0]!r} in {path} is {_shown(prompts[wrong[0]])}; give a text")
    chosen: Any = settings.get("default_prompt_name")
    known = [*prompts, *(() if kind == "rerank" else ("query", "document"))]
    if chosen is not None and chosen not in known:
        have = ", ".join(dict.fromkeys(known)) or "none"
        raise ModelError(
            f"model {name}: 'default_prompt_name' in {path} is {_shown(chosen)}, and no prompt has that name (there are: "
            f"{have}); correct it, or make it null"
        )


def assumed_pooling(folder: Path, kind: str, described: str) -> str:
    """A note on the assumed pooling of a model whose files do not state one; empty if they do."""
    if kind not in ("dense", "sparse") or saved_modules(folder) is not None:
        return ""
    return f"no modules.json says how tokens become one vector; {described} is assumed, as sentence-transformers does"


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)[:60]
