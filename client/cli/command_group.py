"""The group of all commands, with errors of wrong flags in plain words."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

PREFIX = "Value error, "
"""Put before a message by the library that checks the values of flags."""


class CommandGroup(TyperGroup):
    """As Typer's, without that prefix in its messages."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(PREFIX)
            raise
