"""The spec that the flags of `embedfleet run` describe, with paths made absolute and what is plainly wrong refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..protocol.ensembles import EnsembleSpec, Method
from ..protocol.errors import SourceError, UsageError
from ..protocol.known_models import check_known
from ..protocol.spec import CPU_KINDS, FORMS, Kind, PassSpec, RunSpec, check_spec, vector_name

_FLAGS = {"truncate_dim": "--truncate-dim", "storage": "--store"}
"""Options of dense vectors alone."""


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
    ensemble: Sequence[Method] = (),
    weights: str | None = None,
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
    passes = [make_pass("dense", model, options) for model in dense]
    passes += [make_pass("bge-m3", model, options) for model in heads]
    passes += [make_pass("multivector", model, options) for model in multivector]
    passes += [make_pass(_sparse_kind(model), model, options) for model in sparse]
    spec = RunSpec(
        source=source,
        passes=tuple(passes),
        text_field=text_field,
        id_field=id_field,
        limit=limit,
        index=index,
        ensembles=_ensembles(passes, ensemble, weights),
    )
    for flag, unset in (("truncate_dim", None), ("storage", "float32")):
        if options.get(flag, unset) != unset and not any(one.form == "dense" for one in spec.outputs):
            raise UsageError(f"{_FLAGS[flag]} is for dense vectors: give a model with --dense or --heads too")
    check_spec(spec)
    check_known(spec)
    return spec


def _ensembles(passes: list[PassSpec], methods: Sequence[Method], weights: str | None) -> tuple[EnsembleSpec, ...]:
    """One of each method, over all dense vectors; equal weights where none are given."""
    members = tuple(output.vector for one in passes for output in one.outputs if output.form == "dense")
    if weights is not None and not methods:
        raise UsageError(f"--weights {weights}: they are an ensemble's; give --ensemble concat or average too")
    try:
        numbers = tuple(map(float, weights.split(","))) if weights is not None else (1.0,) * len(members)
    except ValueError:
        raise UsageError(f"--weights {weights}: give numbers with commas between, as in 2,1") from None
    return tuple(
        EnsembleSpec(vector=f"ensemble-{method}", method=method, members=members, weights=numbers) for method in methods
    )


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
    if not model.strip():
        raise UsageError("a model's name is empty: give an alias, a hub id or a folder")
    if kind in CPU_KINDS:
        return PassSpec(vector=vector_name(kind, model), kind=kind, model=model, fallback=options.get("fallback", True))
    if "dense" not in FORMS[kind]:
        options = {name: value for name, value in options.items() if name not in _FLAGS}
    path = Path(model).expanduser()
    if path.is_dir():
        return PassSpec(vector=vector_name(kind, model), kind=kind, model=str(path.absolute()), **options)
    name, _, revision = model.partition("@")
    if not name:
        raise UsageError(f"model {model!r}: give a name before the revision")
    return PassSpec(vector=vector_name(kind, name), kind=kind, model=name, revision=revision or None, **options)
