"""The spec that the flags of `embedfleet run` describe, with paths made absolute and what is plainly wrong refused."""

from __future__ import annotations

from collections.abc import Sequence
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
    text_field: str | None,
    id_field: str | None,
    limit: int | None,
    index: Any,
    **options: Any,
) -> RunSpec:
    """Check the flags and build the spec; UsageError or SourceError names the flag and the remedy.

    `options` are fields of PassSpec that hold for every model that has them.
    """
    if source != "-":
        path = Path(source).expanduser()
        if not path.exists():
            raise SourceError(f"source {source}: no such file or folder")
        source = str(path.absolute())
    passes = [make_pass("dense", model, options) for model in dense]
    passes += [make_pass("bge-m3", model, options) for model in heads]
    passes += [make_pass("multivector", model, options) for model in multivector]
    passes += [make_pass(_sparse_kind(model), model, options) for model in sparse]
    spec = RunSpec(
        source=source, passes=tuple(passes), text_field=text_field, id_field=id_field, limit=limit, index=index
    )
    check_spec(spec)
    return spec


def split_names(given: Sequence[str] | None) -> list[str]:
    """The names in flags that may be repeated and may list several, separated by commas."""
    return [name.strip() for one in given or [] for name in one.split(",") if name.strip()]


def split_filters(given: Sequence[str]) -> list[tuple[str, str]]:
    """`KEY=VALUE` as pairs; UsageError for what is none."""
    found: list[tuple[str, str]] = []
    for one in given:
        key, equals, value = one.partition("=")
        if not key.strip() or not equals:
            raise UsageError(f"--filter {one!r}: give KEY=VALUE, as in --filter module=json")
        found.append((key.strip(), value))
    return found


def _sparse_kind(model: str) -> Kind:
    match model:
        case "bm25" | "metadata":
            return model
        case _:
            return "sparse"


def make_pass(kind: Kind, model: str, options: dict[str, Any]) -> PassSpec:
    """One pass with `options`, fields of PassSpec; `MODEL@REVISION` names a revision of a hub id."""
    if kind in CPU_KINDS:
        return PassSpec(vector=vector_name(kind, model), kind=kind, model=model, fallback=options["fallback"])
    path = Path(model).expanduser()
    if path.is_dir():
        return PassSpec(vector=vector_name(kind, model), kind=kind, model=str(path.absolute()), **options)
    name, _, revision = model.partition("@")
    if not name:
        raise UsageError(f"model {model!r}: give a name before the revision")
    return PassSpec(vector=vector_name(kind, name), kind=kind, model=name, revision=revision or None, **options)
