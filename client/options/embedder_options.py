"""The options of an Embedder: the flags of the command line, by name, checked when the Embedder is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from ...protocol.errors import UsageError
from ...protocol.spec.ensemble_spec import Method
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.run_options import RunOptions, check_options

OF_RANK = ("queries", "qrels", "candidates", "top_k", "signals")
"""Flags of `embedfleet run` that are arguments of `Embedder.rank`."""

ARGUMENTS = (
    *("dense", "sparse", "multivector", "heads", "rerank", "devices", "restart", "otlp"),
    *("batch_timeout", "load_timeout", "sparse_device", "backend", "cpu_fallback"),
)
"""Flags that are arguments of `Embedder` itself."""

PASS_FIELDS = (
    "dtype",
    "max_tokens",
    "prompt",
    "query_prompt",
    "trust_remote_code",
    "fallback",
    "max_active_dims",
    "pool_factor",
    "truncate_dim",
    "storage",
    "normalize",
)
RUN_FIELDS = ("text_field", "id_field", "title_field", "limit", "index")

TYPES: dict[str, Any] = {
    **{name: get_type_hints(PassSpec)[name] for name in PASS_FIELDS},
    **{name: get_type_hints(RunSpec)[name] for name in RUN_FIELDS},
    "ensemble": list[Method],
    "weights": str | None,
    "project": bool,
}
"""By field name, the types of the options that become part of the spec."""

_FLAGS = {"store": "storage", "no_fallback": "fallback"}
"""Flags whose field has another name. Messages show the flag."""

FLAG_OF_FIELD = {field: flag for flag, field in _FLAGS.items()}


def names_in(option: str, value: Any) -> list[str]:
    """The value of `option`, one name or a sequence of names, as a list. UsageError for any other type."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{option}={value!r}: give a name, or a list of names")
    return list(value)


def spec_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options by field name. UsageError for an unknown option, or for a value of the wrong type."""
    if ranking := [name for name in OF_RANK if name in options]:
        raise UsageError(f"{', '.join(ranking)}: no option of an Embedder; give it to rank(QUERIES)")
    unknown = [name for name in options if _FLAGS.get(name, name) not in TYPES]
    if unknown:
        known = sorted(FLAG_OF_FIELD.get(name, name) for name in TYPES)
        raise UsageError(
            f"{', '.join(unknown)}: no option of an Embedder; it takes {', '.join(known)}; and {', '.join(ARGUMENTS)}"
        )
    fields: dict[str, Any] = {}
    for name, value in options.items():
        field = _FLAGS.get(name, name)
        if field in fields:
            raise UsageError(f"{name}: given twice, as {FLAG_OF_FIELD[field]} and as {field}")
        if field == "ensemble":
            value = names_in(name, value)
        if field == "weights" and isinstance(value, Sequence) and not isinstance(value, str):
            value = ",".join(map(str, value))
        value = checked(name, value, bool if name == "no_fallback" else TYPES[field])
        fields[field] = not value if name == "no_fallback" else value
    return fields


def run_options(**given: Any) -> RunOptions:
    """The options of how a run is carried out. UsageError for a value of the wrong type or range."""
    types = get_type_hints(RunOptions)
    options = RunOptions(**{name: checked(name, value, types[name]) for name, value in given.items()})
    check_options(options)
    return options


def checked(option: str, value: Any, kind: Any) -> Any:
    """The value, if it has the type `kind`; else UsageError, which names the option and what it takes."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = _choices(kind)
        what = f"give {' or '.join(choices)}" if choices else f"{str(error)[:1].lower()}{str(error)[1:]}"
        raise UsageError(f"{option}={value!r}: {what}") from None


def _choices(kind: Any) -> list[str]:
    """The values of a Literal or an enum, also inside a list or a union; empty for other types."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(choice.value) for choice in kind]
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return [str(choice) for choice in parts]
    return [word for part in parts for word in _choices(part)]
