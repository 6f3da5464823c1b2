"""Build a RunSpec of the flags of `embedfleet run`: check them and make paths absolute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...protocol.errors import SourceError, UsageError
from ...protocol.object_storage.address import is_address, parse_address
from ...protocol.source.check import was_read
from ...protocol.source.remote_corpus import check_readable
from ...protocol.spec.ensemble_spec import EnsembleSpec, Method
from ...protocol.spec.known_models import check_known
from ...protocol.spec.run_spec import (
    CPU_KINDS,
    FLAGS,
    FORMS,
    PREPROCESSING,
    Kind,
    PassSpec,
    RunSpec,
    check_spec,
    prefixed_name,
    vector_name,
)
from ..arguments import check_number, check_text, expand_path

_NAMED = re.compile(r"([^/:,=@]*)=(.*)", re.DOTALL)
"""`NAME=MODEL`."""

_DENSE_FIELDS = ("truncate_dim", "storage", "normalize")
"""Fields that only dense vectors use."""


def build_spec(
    source: str,
    *,
    dense: list[str],
    sparse: list[str],
    multivector: list[str],
    heads: list[str],
    text_field: str | None = None,
    id_field: str | None = None,
    title_field: str | None = None,
    limit: int | None = None,
    index: Any = "edge",
    ensemble: Sequence[Method] = (),
    weights: str | None = None,
    project: bool = False,
    out: Path | None = None,
    **options: Any,
) -> RunSpec:
    """Check the flags and build the spec. UsageError or SourceError names the flag and the remedy.

    The source may be missing if the run in `out` has read it to its end; of one elsewhere, a byte is read.
    `options` are fields of PassSpec. They apply to every model that uses them.
    """
    unknown = sorted(options.keys() - set(PassSpec.__struct_fields__))
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no option of a pass")
    if is_address(source):
        source = str(parse_address(source, "source", SourceError))
        if out is None or not was_read(out, source):
            check_readable(source, text_field)
    elif source != "-":
        path = expand_path(source, "source", SourceError)
        absolute = str(expand_path(path.absolute(), "source", SourceError))
        if not path.exists() and (out is None or not was_read(out, absolute)):
            raise SourceError(f"source {source}: no such file or folder")
        source = absolute
    fields = {"text_field": text_field, "id_field": id_field, "title_field": title_field}
    _check_values(**fields, limit=limit, weights=weights, **options)
    passes = [make_pass("dense", model, options) for model in dense]
    passes += [make_pass("bge-m3", model, options) for model in heads]
    passes += [make_pass("multivector", model, options) for model in multivector]
    passes += [make_pass(_sparse_kind(split_model(model)[1]), model, options) for model in sparse]
    spec = RunSpec(
        source=source,
        passes=tuple(passes),
        text_field=text_field,
        id_field=id_field,
        title_field=title_field,
        limit=limit,
        index=index,
        preprocessing=PREPROCESSING,
        ensembles=_ensembles(passes, ensemble, weights, project),
    )
    check_spec(spec)
    _check_use(spec, options)
    check_known(spec)
    return spec


def _check_values(**values: Any) -> None:
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, str):
            check_text(value, flag)
        elif isinstance(value, int):
            check_number(value, flag)


def _check_use(spec: RunSpec, options: dict[str, Any]) -> None:
    """Raise UsageError for an option that no model of the run uses."""
    dense = any(one.form == "dense" for one in spec.outputs)
    late = any(one.form == "multivector" for one in spec.outputs)
    kinds = {one.kind for one in spec.passes}
    for flag, value, used, what, remedy in (
        ("--truncate-dim", options.get("truncate_dim"), dense, "dense vectors", "--dense or --heads"),
        ("--normalize", options.get("normalize"), dense, "dense vectors", "--dense"),
        ("--store", options.get("storage", "float32") != "float32", dense, "dense vectors", "--dense or --heads"),
        ("--max-active-dims", options.get("max_active_dims"), "sparse" in kinds, "learned sparse weights", "--sparse"),
        ("--pool-factor", options.get("pool_factor", 1) != 1, late, "multivectors", "--multivector or --heads"),
    ):
        if value and not used:
            raise UsageError(f"{flag} is for {what}: give a model with {remedy} too, or leave it out")


def _ensembles(
    passes: list[PassSpec], methods: Sequence[Method], weights: str | None, project: bool
) -> tuple[EnsembleSpec, ...]:
    """One ensemble for each method, over all dense vectors. Without `weights`, all weights are 1."""
    members = tuple(output.vector for one in passes for output in one.outputs if output.form == "dense")
    if weights is not None and not methods:
        raise UsageError(f"--weights {weights}: they are an ensemble's; give --ensemble concat or average too")
    if project and "average" not in methods:
        raise UsageError("--project is for an average of models of different dimensions; give --ensemble average too")
    try:
        numbers = tuple(map(float, weights.split(","))) if weights is not None else (1.0,) * len(members)
    except ValueError:
        raise UsageError(f"--weights {weights}: give numbers with commas between, as in 2,1") from None
    return tuple(
        EnsembleSpec(
            vector=f"ensemble-{method}",
            method=method,
            members=members,
            weights=numbers,
            project=project and method == "average",
        )
        for method in methods
    )


def split_names(values: Sequence[str] | None, flag: str) -> list[str]:
    """The names in a flag that may be repeated and may list several names with commas. UsageError if it names nothing."""
    names = [name.strip() for value in values or [] for name in value.split(",") if name.strip()]
    if values and not names:
        raise UsageError(f"{flag} {values[0]!r}: names nothing; give names with commas between, or leave it out")
    return names


def _sparse_kind(model: str) -> Kind:
    match model:
        case "bm25" | "metadata":
            return model
        case _:
            return "sparse"


def split_model(argument: str) -> tuple[str | None, str]:
    """Split `NAME=MODEL` into the vector's name, None without one, and the model.

    An existing folder is a model even if its path contains `=`. So is `fake:8,delay_ms=5`: a name holds no colon or comma.
    """
    found = _NAMED.fullmatch(argument)
    if found is None or expand_path(argument, "model").is_dir():
        return None, argument
    return found[1], found[2]


def make_pass(kind: Kind, argument: str, options: dict[str, Any]) -> PassSpec:
    """The pass for `argument`: a `MODEL`, a `MODEL@REVISION` of the hub, or `NAME=MODEL`. `options` are fields of PassSpec."""
    name, model = split_model(argument)
    if not model.strip():
        raise UsageError(f"{FLAGS[kind]} {argument!r}: a model's name is empty: give an alias, a hub id or a folder")
    if name is not None and not name.strip():
        raise UsageError(f"model {argument!r}: give a name for the vector before the sign =")
    stem, model, revision = _resolve_model(kind, model)
    if kind in CPU_KINDS:
        options = {"fallback": options.get("fallback", True)}
    elif "dense" not in FORMS[kind]:
        options = {name: value for name, value in options.items() if name not in _DENSE_FIELDS}
    vector = vector_name(kind, stem) if name is None else prefixed_name(kind, name)
    return PassSpec(vector=vector, kind=kind, model=model, revision=revision, **options)


def _resolve_model(kind: Kind, model: str) -> tuple[str, str, str | None]:
    """The text that the vector is named after, the model (a folder as an absolute path), and its revision."""
    if kind in CPU_KINDS:
        return model, model, None
    path = expand_path(model, "model")
    if path.is_dir():
        return model, str(path.absolute()), None
    name, _, revision = model.partition("@")
    if not name:
        raise UsageError(f"model {model!r}: give a name before the revision")
    return name, name, revision or None
