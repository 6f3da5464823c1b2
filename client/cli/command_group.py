"""The group of all commands, with errors of wrong flags in plain words."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

PREFIX = "Value error, "
"""Put before a message by the library that checks the values of flags."""


class CommandGroup(TyperGroup):
    """As Typer's, without that prefix in its messages, and quick to complete."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(PREFIX)
            raise

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the words of a command. While a shell completes it, values stay as they were typed."""
        if extra.get("resilient_parsing"):
            _leave_values(self)
        return super().make_context(info_name, args, parent, **extra)


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
