"""Whether a model was trained for what a pass wants of it, by what its files say.

The reference loads almost anything as anything, with random weights in what is missing and without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from ..protocol.errors import ModelError

M3_HEADS = ("sparse_linear", "colbert_linear")
_HEADED = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")


def saved_modules(folder: Path) -> list[str] | None:
    """The class names in `modules.json`; None for a folder that transformers alone saved."""
    types = module_types(folder)
    return None if types is None else [one.rsplit(".", 1)[-1] for one in types]


def module_types(folder: Path) -> list[str] | None:
    """The full names of the classes in `modules.json`; ValueError where it is damaged."""
    modules = _modules(folder)
    return None if modules is None else [one["type"] for one in modules]


def module_paths(folder: Path) -> list[str]:
    """The folders in `modules.json` that its modules are loaded from, within the model's; that one itself where it has none."""
    found = [one.get("path", "") for one in _modules(folder) or [{}]]
    return [one.strip("/") for one in dict.fromkeys(found) if isinstance(one, str)]


def _modules(folder: Path) -> list[dict[str, Any]] | None:
    path = folder / "modules.json"
    if not path.is_file():
        return None
    modules: Any = _json(path)
    if not isinstance(modules, list):
        raise ValueError(f"{path} is no list of modules")
    for one in cast("list[Any]", modules):
        if not isinstance(one, dict) or not isinstance(one.get("type"), str):
            raise ValueError(f"{path} has a module without a type")
    return cast("list[dict[str, Any]]", modules)


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json`; ValueError where it is damaged."""
    return read_settings(folder / "config.json")


def read_settings(path: Path) -> dict[str, Any]:
    """A file of settings; ValueError where it is damaged."""
    settings: Any = _json(path)
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no JSON object")
    return cast("dict[str, Any]", settings)


def _json(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def architectures(folder: Path) -> list[str]:
    """The class names in `config.json`."""
    found: Any = read_config(folder).get("architectures")
    return [one for one in cast("list[Any]", found) if isinstance(one, str)] if isinstance(found, list) else []


def check_kind(kind: str, folder: Path, name: str) -> None:
    """ModelError where a pass of this kind would be computed, at least in part, with weights that nobody trained."""
    saved, classes = saved_modules(folder), architectures(folder)
    match kind:
        case "dense":
            _check_dense(saved, classes, folder, name)
        case "sparse":
            _check_sparse(saved, classes, folder, name)
        case "multivector":
            _check_multivector(saved or [], classes, folder, name)
        case "rerank":
            _check_rerank(saved or [], classes, folder, name)
        case "bge-m3":
            for head in M3_HEADS:
                if not (folder / f"{head}.pt").is_file():
                    raise ModelError(
                        f"model {name}: {folder} has no {head}.pt, a head that bge-m3 ships; get it too, or use --dense"
                    )
        case _:
            pass


def _check_dense(saved: list[str] | None, classes: list[str], folder: Path, name: str) -> None:
    if saved is None and classes and all(one.endswith(_HEADED) for one in classes):
        raise ModelError(
            f"model {name} is no embedding model: {folder / 'config.json'} names {classes[0]}, whose backbone was not "
            "trained to give vectors. Give an embedding model, or use --rerank for a cross-encoder"
        )


def _check_sparse(saved: list[str] | None, classes: list[str], folder: Path, name: str) -> None:
    if saved is not None:
        trained = any(one == "Router" or "Splade" in one or "Sparse" in one for one in saved)
    else:
        trained = any(one.endswith("ForMaskedLM") for one in classes)
    if not trained:
        raise ModelError(
            f"model {name} is no sparse model: {folder} has neither a masked-language head "
            "nor modules that a SparseEncoder saved. Give a SPLADE model, or use --dense for this one"
        )


def _check_multivector(saved: list[str], classes: list[str], folder: Path, name: str) -> None:
    native = any(one == "HF_ColBERT" or one.endswith("ForRetrieval") for one in classes)
    if not native and not {"Dense", "MultiVectorMask", "Router"} & set(saved):
        raise ModelError(
            f"model {name} is no late-interaction model: {folder} has no projection of "
            "tokens, and one of random weights would be made up. Give a ColBERT model, or use --dense for this one"
        )


def _check_rerank(saved: list[str], classes: list[str], folder: Path, name: str) -> None:
    headed = any(one.endswith(("ForSequenceClassification", "ForCausalLM")) for one in classes)
    if not headed and not {"LogitScore", "Dense"} & set(saved):
        raise ModelError(
            f"model {name} is no reranker: {folder} has no scoring head "
            f"(architectures {classes}), and one of random weights would be made up. Give a cross-encoder"
        )
