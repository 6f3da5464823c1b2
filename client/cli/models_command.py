"""`embedfleet models`: the catalogue, and `embedfleet models pull`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..completion.models import known_models
from ..flags.command_group import QuickGroup
from ..output.json_output import print_json
from .flag_types import AsJson

models = typer.Typer(
    name="models",
    cls=QuickGroup,
    help="Models with a short name: dimensions, limits, languages, size, license, and whether they are here.",
)


@models.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that have a short name, and whether they are on this host."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from ..models.listing import list_models
    from ..models.table import print_models

    found = list_models()
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_models(found)


@models.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            autocompletion=known_models,
            help="A short name, or a hub id (owner/name). MODEL@REVISION names another revision.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Fetch the files that a run would fetch, so that later runs need no hub."""
    import msgspec

    from ...protocol.text.terminal_text import printable
    from ..models.pull import pull as execute
    from ..models.table import pulled_line

    for name in names:
        pulled = execute(name)
        if as_json:
            print_json(msgspec.structs.asdict(pulled))
        else:
            sys.stdout.write(f"{printable(pulled_line(pulled))}\n")
