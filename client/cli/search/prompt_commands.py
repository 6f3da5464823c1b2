"""Parse a line at the search prompt: a query, or a command that begins with a colon."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from ....protocol.errors import UsageError
from ....protocol.index.metadata_filter import MetadataFilter
from ...options.spec_builder import split_names
from ...search.filter_text import split_filters

HELP = """\
words                search for them
:k N                 show N hits
:filter KEY=VALUE …  only chunks with this metadata: lang=de|en words>=100 date<2024
                     all must hold; without any, all chunks
:signals S,S         fuse these vectors or forms; without any, all
:open N              show the whole chunk of hit N
:help                this list
:quit                end, as Ctrl-D does
A query that begins with a colon has a space before it. Ctrl-C drops the line."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How queries are answered; the flags of `embedfleet search`."""

    top_k: int = 10
    signals: tuple[str, ...] = ()
    filters: tuple[MetadataFilter, ...] = ()
    rerank: str | None = None
    trust_remote_code: bool = False
    candidates: int | None = None


class Query(NamedTuple):
    """Answer it."""

    text: str


class Open(NamedTuple):
    """Show the whole chunk of a hit of the last answer, counted from 1."""

    number: int


class Help(NamedTuple):
    """List the commands."""


class Quit(NamedTuple):
    """End the prompt."""


Command = Query | SearchSettings | Open | Help | Quit
"""SearchSettings for the queries that follow."""


def parse(line: str, settings: SearchSettings) -> Command | None:
    """The command in a line, None in a blank one. UsageError, in one line, for a bad command."""
    if not line.strip():
        return None
    if not line.startswith(":"):
        return Query(line.strip())
    name, _, argument = line[1:].strip().partition(" ")
    known = _COMMANDS.get(name)
    if known is None:
        raise UsageError(
            f":{name} is no command; :help lists them, and a query that begins with a colon has a space before it"
        )
    return known(argument.strip(), settings)


def _k(argument: str, settings: SearchSettings) -> Command:
    number = _number(argument)
    if number is None:
        raise UsageError(f":k {argument}: give how many hits to show, as in :k 5")
    return replace(settings, top_k=number)


def _filter(argument: str, settings: SearchSettings) -> Command:
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise UsageError(f":filter {argument}: {str(error).lower()}; quote values as in a shell") from None
    return replace(settings, filters=tuple(split_filters(words)))


def _signals(argument: str, settings: SearchSettings) -> Command:
    return replace(settings, signals=tuple(split_names([argument], ":signals")) if argument else ())


def _open(argument: str, _settings: SearchSettings) -> Command:
    number = _number(argument)
    if number is None:
        raise UsageError(f":open {argument}: give the number of a hit, as in :open 1")
    return Open(number)


def _number(argument: str) -> int | None:
    """A number from 1 to 999,999; None for anything else."""
    is_number = argument.isascii() and argument.isdigit() and len(argument) <= 6
    return int(argument) or None if is_number else None


_COMMANDS: dict[str, Callable[[str, SearchSettings], Command]] = {
    "k": _k,
    "filter": _filter,
    "signals": _signals,
    "open": _open,
    "help": lambda _argument, _settings: Help(),
    "quit": lambda _argument, _settings: Quit(),
}
