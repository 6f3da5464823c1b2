"""Print the catalogue for people: a table for each flag."""

from __future__ import annotations

from rich.table import Table

from ...protocol.wire.pulled_model import PulledModel
from ..output.console import output_console
from ..output.formatting import human_bytes
from .listing import ListedModel
from .presence import Presence

HERE: dict[Presence, str] = {"cache": "yes", "package": "package", "incomplete": "in part", "none": "-"}


def print_models(models: list[ListedModel]) -> None:
    """Print the models by their flags, and how to fetch one."""
    console = output_console()
    for flag in dict.fromkeys(one.flag for one in models):
        table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column(flag, overflow="fold", min_width=22)
        for name in ("dim", "tokens", "languages", "size"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("license", "here"):
            table.add_column(name, no_wrap=True)
        for one in models:
            if one.flag == flag:
                table.add_row(*_cells(one))
        console.print(table)
        console.print()
    if any(one.remote_code for one in models):
        console.print("* brings code of its own: needs --trust-remote-code")
    console.print("fetch one for jobs that run offline: embedfleet models pull MODEL")


def _cells(one: ListedModel) -> tuple[str, ...]:
    return (
        one.name + ("*" if one.remote_code else ""),
        f"{one.dim:,}",
        f"{one.max_tokens:,}",
        one.languages or "-",
        human_bytes(one.bytes) if one.bytes else "-",
        one.license or "-",
        HERE[one.here],
    )


def pulled_line(model: PulledModel) -> str:
    """One line on a model that is on this host now."""
    what = "fetched" if model.fetched else "already here"
    trust = " --trust-remote-code" if model.remote_code else ""
    flags = " or ".join(f"{flag} {model.name}{trust}" for flag in model.flags)
    return f"{model.name}: {what}, {human_bytes(model.bytes)} in {model.folder}; use it with {flags}"
