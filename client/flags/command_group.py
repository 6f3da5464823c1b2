"""The group of all commands: each flag has a variable, and errors of wrong values are in plain words."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from .examples import epilog
from .output_flags import add_output_flags
from .panels import arrange

PREFIX = "Value error, "
"""Put before a message by the library that checks the values of flags."""

NO_VARIABLE = frozenset({"--write-config", "--restart", "--replace", "--prune"})
"""Flags that print, or remove something, this time: they are typed."""


class QuickGroup(TyperGroup):
    """As Typer's, without the import of a large library for its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The group's own options. The default of a switch is False: for None, Typer imports pydantic to convert it, before any
        command."""
        found: list[Any] = super().get_params(ctx)
        for option in found:
            if option.default is None and option.type_descriptor.annotation is bool:
                option.default = False
        return found


class CommandGroup(QuickGroup):
    """As Typer's, but quick to complete. Each command gets the flags of the output, panels and examples in its help, and
    variables for its flags: `--dtype` of `run` may be given as EMBEDFLEET_RUN_DTYPE."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.epilog = epilog("")
        for name, command in self.commands.items():
            _prepare(name, command)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(PREFIX) + _origin(error.ctx, error.param)
            raise

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the words of a command. While a shell completes it, values stay as they were typed."""
        if extra.get("resilient_parsing"):
            _leave_values(self)
        return super().make_context(info_name, args, parent, **extra)


def _prepare(name: str, command: Any) -> None:
    """Complete a command, or each command of a group such as `models`."""
    subcommands = getattr(command, "commands", {})
    for inner, subcommand in subcommands.items():
        _prepare(f"{name} {inner}", subcommand)
    add_output_flags(name, command)
    command.epilog = epilog(name)
    arrange(name, command)
    for option in command.params:
        _name_variable(name, option)


def _name_variable(command: str, option: Any) -> None:
    """Name the variable of a flag that has none of its own. The help does not show it: the rule is the same for all."""
    flag = next((flag for flag in option.opts if flag.startswith("--")), None)
    if option.envvar is None and flag is not None and flag not in NO_VARIABLE:
        option.envvar = f"EMBEDFLEET_{command}_{flag[2:]}".replace("-", "_").replace(" ", "_").upper()
        option.show_envvar = False


def _origin(context: Any, option: Any) -> str:
    """Where a refused value is from; empty for one that was typed."""
    if context is None or option is None:
        return ""
    source = context.get_parameter_source(option.name)
    match source.name if source is not None else "":
        case "ENVIRONMENT":
            return f" (from {option.envvar})"
        case "DEFAULT_MAP":
            return f" (from {context.params.get('config')})"
        case _:
            return ""


def _leave_values(command: Any) -> None:
    """Keep a command, and those below it, from checking values: the library that does it takes a quarter of a second to
    import, and no completion needs it."""
    all_params = command.get_params

    def get_params(ctx: Any) -> list[Any]:
        found: list[Any] = all_params(ctx)
        for one in found:
            one.process_value = _as_typed
        return found

    command.get_params = get_params
    for below in getattr(command, "commands", {}).values():
        _leave_values(below)


def _as_typed(_context: Any, value: Any) -> Any:
    return value
