"""Check by a model's files whether it was trained for the kind of a pass.

sentence-transformers loads almost any model as any kind, silently with random weights for missing parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ...protocol.errors import ModelError
from ...protocol.spec.fake_models import PREFIX
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec
from .parts import backbones, named_modules, parts_of, read_settings

M3_HEADS = ("sparse_linear", "colbert_linear")
_HEADED = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")


def saved_modules(folder: Path) -> list[str] | None:
    """The class names in `modules.json`; None for a folder that transformers alone saved."""
    named = named_modules(folder)
    return None if named is None else [one.name for one in named]


def architectures(folder: Path) -> list[str]:
    """The class names in the `config.json` of the part that transformers loads; empty without one. ValueError if it is
    damaged."""
    path = config_file(folder)
    found: Any = read_settings(path).get("architectures") if path is not None else None
    return [one for one in cast("list[Any]", found) if isinstance(one, str)] if isinstance(found, list) else []


def config_file(folder: Path) -> Path | None:
    """The `config.json` of the first part that transformers loads, else the folder's; None without one."""
    found = [folder / one.file("config.json") for one in backbones(parts_of(folder))]
    return next((one for one in [*found, folder / "config.json"] if one.is_file()), None)


def check_kind(kind: str, folder: Path, name: str) -> None:
    """Raise ModelError if a pass of this kind would use untrained weights."""
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
            f"model {name} is no embedding model: {config_file(folder)} names {classes[0]}, whose backbone was not "
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


def is_convertible(spec: PassSpec) -> bool:
    """Whether an engine could compute the pass: it has a model's forward pass over documents or pairs. Queries are encoded by
    torch."""
    has_model = spec.kind not in CPU_KINDS and not spec.model.startswith(PREFIX)
    return has_model and (spec.side == "document" or spec.kind == "rerank")
