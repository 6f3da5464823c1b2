"""The flags of a command: their names, types, and the values that a command line gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

ONLY_TYPED = frozenset({"config", "write-config", "restart"})
"""Flags of `run` that are no settings: no file gives them."""


class Flag(NamedTuple):
    """A flag: the parameter of the command's function that gets its value, and the type of one in a file."""

    parameter: str
    kind: Any


def known_flags(parameters: Sequence[Any], types: Mapping[str, Any]) -> dict[str, Flag]:
    """The flags of a command by name, without dashes; an argument by its own name. `parameters` are those of Typer's command,
    `types` the annotations of its function."""
    flags: dict[str, Flag] = {}
    for one in parameters:
        flag = flag_name(one)
        if flag not in ONLY_TYPED and one.name in types:
            flags[flag] = Flag(one.name, _in_a_file(types[one.name]))
    return flags


def flag_name(parameter: Any) -> str:
    """The name of a parameter of a command, as it is typed, without dashes."""
    return next((flag[2:] for flag in parameter.opts if flag.startswith("--")), parameter.name)


def given_values(context: Any) -> dict[str, Any]:
    """The values of a command's parameters that are not defaults: typed, from a variable, or from a file."""
    return {
        one.name: context.params[one.name]
        for one in context.command.params
        if one.name in context.params
        and (source := context.get_parameter_source(one.name)) is not None
        and source.name != "DEFAULT"
    }


def _in_a_file(kind: Any) -> Any:
    """The type of a value in TOML: without None, and text for a path."""
    if NoneType in get_args(kind):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    return str if kind is Path else kind


def is_list(kind: Any) -> bool:
    """Whether a flag of this type takes several values."""
    return get_origin(kind) is list
