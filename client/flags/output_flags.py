"""The flags of the output: added to each command, and set before it begins."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ..output.messages import OutputSettings, ProgressMode, configure

TABLE = {
    "run": ("quiet", "verbose", "log_file", "no_color", "progress"),
    "fit": ("quiet", "verbose", "log_file", "no_color", "progress"),
    "plan": ("quiet", "no_color"),
    "upload": ("quiet", "log_file", "no_color", "progress"),
    "search": ("quiet", "no_color"),
    "verify": ("quiet", "no_color"),
    "export": ("quiet", "no_color"),
    "merge": ("quiet", "log_file", "no_color", "progress"),
    "serve": (),
    "worker": (),
}
"""The flags of each command. `serve` and `worker` write plain lines as long as they live."""
OTHERS = ("no_color",)
"""Of all other commands."""


def _turn_color_off(wanted: bool) -> bool:
    if wanted:
        os.environ["NO_COLOR"] = "1"  # for the help and the errors of a command line too, and for child processes
    return wanted


def _flags(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Show errors and results only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", metavar="", help="Show each event of the run, and all figures.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append all messages and events there, each line with its time.")
    ] = None,
    no_color: Annotated[
        bool,
        typer.Option(
            "--no-color", metavar="", is_eager=True, callback=_turn_color_off, help="No colours, as with NO_COLOR=1."
        ),
    ] = False,
    progress: Annotated[
        ProgressMode,
        typer.Option(
            metavar="FORM",
            help="bar, plain (lines with the time), json, none, or auto: bars on a terminal, lines elsewhere.",
        ),
    ] = "auto",
) -> None:
    """Show messages in another way."""


def add_output_flags(name: str, command: Any) -> None:
    """Give a command of Typer its flags of the output. Their values are set before the command begins."""
    mine = [copy.copy(option) for option in _options() if option.name in TABLE.get(name, OTHERS)]
    if mine:
        command.params += mine
        command.callback = _configured(command.callback)


def output_types() -> dict[str, Any]:
    """The types of the flags by parameter."""
    hints = get_type_hints(_flags)
    del hints["return"]
    return hints


@cache
def _options() -> list[Any]:
    app = typer.Typer(add_completion=False)
    app.command()(_flags)
    return typer.main.get_command(app).params


def _configured(callback: Callable[..., Any]) -> Callable[..., Any]:
    names = OutputSettings.__dataclass_fields__

    def call(**values: Any) -> Any:
        settings = {name: values.pop(name) for name in names if name in values}
        _turn_color_off(bool(settings.get("no_color")))
        configure(OutputSettings(**settings))
        return callback(**values)

    return call
