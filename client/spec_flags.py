"""The spec that the flags of `embedfleet run` describe, with paths made absolute and what is plainly wrong refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..protocol.errors import SourceError, UsageError
from ..protocol.spec import CPU_KINDS, Kind, PassSpec, RunSpec, check_spec, vector_name


def build_spec(
    source: str,
    *,
    dense: list[str],
    sparse: list[str],
    multivector: list[str],
    heads: list[str],
    text_field: str | None = None,
    id_field: str | None = None,
    limit: int | None = None,
    index: Any = "edge",
    **options: Any,
) -> RunSpec:
    """Check the flags and build the spec; UsageError or SourceError names the flag and the remedy.

    `options` are fields of PassSpec that hold for every model that has them.
    """
    unknown = sorted(options.keys() - set(PassSpec.__struct_fields__))
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no option of a pass")
    if source != "-":
        path = Path(source).expanduser()
        if not path.exists():
            raise SourceError(f"source {source}: no such file or folder")
        source = str(path.absolute())
        try:
            source.encode()
        except UnicodeEncodeError:
            raise SourceError(f"source {source!r}: its name is not UTF-8; rename it") from None
    passes = [_pass("dense", model, options) for model in dense]
    passes += [_pass("bge-m3", model, options) for model in heads]
    passes += [_pass("multivector", model, options) for model in multivector]
    passes += [_pass(_sparse_kind(model), model, options) for model in sparse]
    spec = RunSpec(
        source=source, passes=tuple(passes), text_field=text_field, id_field=id_field, limit=limit, index=index
    )
    check_spec(spec)
    return spec


def _sparse_kind(model: str) -> Kind:
    match model:
        case "bm25" | "metadata":
            return model
        case _:
            return "sparse"


def _pass(kind: Kind, model: str, options: dict[str, Any]) -> PassSpec:
    """One pass; `MODEL@REVISION` names a revision of a hub id."""
    if not model.strip():
        raise UsageError("a model's name is empty: give an alias, a hub id or a folder")
    if kind in CPU_KINDS:
        return PassSpec(vector=vector_name(kind, model), kind=kind, model=model, fallback=options.get("fallback", True))
    path = Path(model).expanduser()
    if path.is_dir():
        return PassSpec(vector=vector_name(kind, model), kind=kind, model=str(path.absolute()), **options)
    name, _, revision = model.partition("@")
    if not name:
        raise UsageError(f"model {model!r}: give a name before the revision")
    return PassSpec(vector=vector_name(kind, name), kind=kind, model=name, revision=revision or None, **options)
