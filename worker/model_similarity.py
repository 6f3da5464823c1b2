"""How a model's vectors are meant to be compared, by its files. Vectors here are units, ranked by their cosine."""

from __future__ import annotations

import re
from pathlib import Path

from ..protocol.errors import ModelError
from ..protocol.spec import PassSpec
from .model_parts import ROUTERS, Part, named_modules, parts_of, read_settings

COSINE = "cosine"
SENTENCE = "config_sentence_transformers.json"
_SAME_FOR_UNITS = ("dot", "euclidean")
"""Of unit vectors they rank as the cosine does; the sum of differences (manhattan) does not."""
_NAMED_SO = re.compile(r"(^|[-_.])dot([-_.]|$)", re.IGNORECASE)
"""Models made before the file could say it are named after it: multi-qa-mpnet-base-dot-v1, msmarco-bert-base-dot-v5."""


def similarity_of(folder: Path, name: str) -> tuple[str, str]:
    """The similarity of a dense model and what says so; ("cosine", "") where nothing does. ValueError for a damaged file."""
    path = folder / SENTENCE
    said = read_settings(path).get("similarity_fn_name") if path.is_file() else None
    if isinstance(said, str):
        return said, str(path)
    if _NAMED_SO.search(name.rsplit("/", 1)[-1]):
        return "dot", f"the name of {folder}"
    return COSINE, ""


def check_similarity(folder: Path, name: str, spec: PassSpec) -> None:
    """ModelError for a dense model that is not for the cosine, unless the pass says that it is to be taken so."""
    if spec.kind != "dense" or spec.normalize:
        return
    similarity, where = similarity_of(folder, name)
    if similarity == COSINE or (similarity in _SAME_FOR_UNITS and gives_units(folder)):
        return
    raise ModelError(
        f"model {name} is made for comparison by {_words(similarity)} (so says {where}), and the length of its vectors counts. "
        "Here vectors are brought to length 1 and ranked by their cosine, which gives another order; give --normalize to "
        "take it so all the same, or a model for the cosine"
    )


def _words(similarity: str) -> str:
    return {"dot": "dot product"}.get(similarity, f"{similarity} distance")


def gives_units(folder: Path) -> bool:
    """Whether the model's vectors have length 1 by its last module, on every route."""
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
