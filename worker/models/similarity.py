"""Read a model's similarity function from its files. This package normalizes vectors and ranks by cosine."""

from __future__ import annotations

import re
from pathlib import Path

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from .parts import ROUTERS, Part, named_modules, parts_of, read_settings

COSINE = "cosine"
SENTENCE = "config_sentence_transformers.json"
_SAME_FOR_UNITS = ("dot", "euclidean")
"""Similarities that rank unit vectors as the cosine does; manhattan does not."""
_NAMED_SO = re.compile(r"(^|[-_.])dot([-_.]|$)", re.IGNORECASE)
"""Older models state it only in their names: multi-qa-mpnet-base-dot-v1, msmarco-bert-base-dot-v5."""


def similarity_of(folder: Path, name: str) -> tuple[str, str]:
    """The similarity of a dense model, and where it is stated; ("cosine", "") if nowhere. ValueError for a damaged file."""
    path = folder / SENTENCE
    stated = read_settings(path).get("similarity_fn_name") if path.is_file() else None
    if isinstance(stated, str):
        return stated, str(path)
    if _NAMED_SO.search(name.rsplit("/", 1)[-1]):
        return "dot", f"the name of {folder}"
    return COSINE, ""


def check_similarity(folder: Path, name: str, spec: PassSpec) -> None:
    """Raise ModelError for a dense model with another similarity than the cosine, unless the pass has `normalize`."""
    if spec.kind != "dense" or spec.normalize:
        return
    similarity, where = similarity_of(folder, name)
    if similarity == COSINE or (similarity in _SAME_FOR_UNITS and gives_units(folder)):
        return
    raise ModelError(
        f"model {name} is made for comparison by {_words(similarity)} (according to {where}): the length of vectors counts. "
        "Here vectors are brought to length 1 and ranked by their cosine, which gives another order; give --normalize to "
        "use it nevertheless, or a model for the cosine"
    )


def _words(similarity: str) -> str:
    return {"dot": "dot product"}.get(similarity, f"{similarity} distance")


def gives_units(folder: Path) -> bool:
    """Whether the model's last module normalizes its vectors, on every route."""
    named = named_modules(folder)
    if not named:
        return False
    last = _last(named)
    if last is None or last.name not in ROUTERS:
        return last is not None and last.name == "Normalize"
    file = next((folder / one for one in last.settings() if (folder / one).is_file()), None)
    routes = read_settings(file).get("structure") if file is not None else None
    names = {one.path: one for one in parts_of(folder)}
    ends = (
        [[names.get(last.file(str(one))) for one in route] for route in routes.values()]
        if isinstance(routes, dict)
        else []
    )
    return bool(ends) and all(
        (end := _last([one for one in route if one])) and end.name == "Normalize" for route in ends
    )


def _last(parts: list[Part]) -> Part | None:
    return next((one for one in reversed(parts) if one.name != "Dropout"), None)
