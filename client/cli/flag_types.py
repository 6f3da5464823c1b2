"""Types of flags, and the flags that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..completion.run_directories import run_directories


class EnsembleName(StrEnum):
    """Methods of an ensemble. An enum, since Typer takes no list of a Literal."""

    concat = "concat"
    average = "average"


COORDINATOR = "EMBEDFLEET_COORDINATOR"
"""The variable with the address of a coordinator: where `serve` listens, and where `worker` connects."""

Devices = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        envvar="EMBEDFLEET_DEVICES",
        help="cuda:0,cuda:1 | GPU UUIDs | cpu | cpu:2. Default: all GPUs, else one CPU slot.",
    ),
]


def local_path(typed: str) -> Path:
    """The path that was typed. Refuse an empty one, from an unset variable perhaps: Path("") is the current folder."""
    if not typed:
        raise typer.BadParameter("is empty; give a path, or . for the folder that you are in")
    return Path(typed)


def is_given(context: typer.Context, parameter: str) -> bool:
    """Whether the user gave this flag: typed it, or set it in a variable or a file of flags."""
    return getattr(context.get_parameter_source(parameter), "name", "DEFAULT") != "DEFAULT"


RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        parser=local_path,
        autocompletion=run_directories,
        help="The folder that `embedfleet run` wrote to.",
    ),
]
Quantized = Annotated[
    Literal["none", "scalar"] | None,
    typer.Option(help="Of the collection: none, or scalar (int8). Default: that of the last export, at first none."),
]
TrustsCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", metavar="", help="Run Python code that comes with a model, with your rights."),
]
Otlp = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="EMBEDFLEET_OTLP",
        help="Send OpenTelemetry spans there over HTTP, as in http://localhost:4318.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Machine-readable: JSON on standard output.")]
