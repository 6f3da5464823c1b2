"""The panels of the help: which flags stand together."""

from __future__ import annotations

from typing import Any

OUTPUT = "Output"

PANELS = {
    "Models": (
        *("dense", "sparse", "multivector", "heads", "prompt", "query-prompt", "trust-remote-code", "no-fallback"),
    ),
    "Vectors": (
        *("index", "store", "truncate-dim", "normalize", "ensemble", "weights", "project", "max-active-dims"),
        "pool-factor",
    ),
    "Queries and evaluation": ("queries", "qrels", "rerank", "candidates", "top-k", "signals"),
    "Devices": ("devices", "dtype", "backend", "sparse-device", "cpu-fallback"),
    "Limits": ("limit", "max-tokens", "batch-timeout", "load-timeout", "grace"),
    OUTPUT: ("export", "json", "quiet", "verbose", "log-file", "no-color", "progress", "otlp"),
}
"""The flags of `embedfleet run` by the title of their panel. Flags in no panel stand first, under Options."""

EVERYWHERE = frozenset({"json", "quiet", "verbose", "log-file", "no-color", "progress"})
"""Flags that stand under Output in the help of each command."""


def arrange(name: str, command: Any) -> None:
    """Put the flags of a command into panels, in the order of the table."""
    titles = {flag: title for title, flags in PANELS.items() for flag in flags if name == "run" or flag in EVERYWHERE}
    places = {flag: place for place, flag in enumerate(titles, 1)}
    for option in command.params:
        if (flag := flag_of(option)) in titles:
            option.rich_help_panel = titles[flag]
    command.params.sort(key=lambda option: places.get(flag_of(option), 0))


def flag_of(option: Any) -> str:
    """The name of a flag without dashes; empty for an argument."""
    return next((flag[2:] for flag in option.opts if flag.startswith("--")), "")
