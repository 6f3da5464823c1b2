"""The panels of the help: which flags stand together."""

from __future__ import annotations

from typing import Any

_OF_A_RUN = {
    "Models": (
        *("dense", "sparse", "multivector", "heads", "prompt", "query-prompt", "trust-remote-code", "no-fallback"),
    ),
    "Vectors": (
        *("index", "store", "truncate-dim", "normalize", "ensemble", "weights", "project", "max-active-dims"),
        "pool-factor",
    ),
    "Queries and evaluation": ("queries", "qrels", "rerank", "candidates", "top-k", "signals"),
    "Devices": ("devices", "dtype", "backend", "sparse-device", "cpu-fallback"),
    "Shards": ("shard", "shards", "on", "ray-address"),
    "Limits": ("limit", "max-tokens", "batch-timeout", "load-timeout", "grace"),
}

PANELS = {
    "run": _OF_A_RUN,
    "fit": _OF_A_RUN,
    "plan": {
        "Models": _OF_A_RUN["Models"],
        "Vectors": _OF_A_RUN["Vectors"],
        "Devices": ("devices", "gpus", "dtype", "backend", "sparse-device"),
        "Limits": ("limit", "max-tokens"),
    },
    "upload": {
        "Shards of the run": ("shard", "finish"),
        "Collection": (
            *("quantization", "payload-index", "hnsw-m", "on-disk", "shards", "replicas", "replace", "prune"),
        ),
        "Requests": ("grpc", "grpc-port", "streams", "batch", "max-request", "cut-payload", "wait"),
    },
}
"""By command and title of the panel. Other flags stand first, under Options."""

OUTPUT = ("export", "write", "compare", "json", "quiet", "verbose", "log-file", "progress", "no-color", "otlp")
"""Flags of the panel Output, the last one of each command."""


def arrange(name: str, command: Any) -> None:
    """Put the flags of a command into panels, in the order of the table."""
    panels = {**PANELS.get(name, {}), "Output": OUTPUT}
    titles = {flag: title for title, flags in panels.items() for flag in flags}
    places = {flag: place for place, flag in enumerate(titles, 1)}
    for option in command.params:
        if (flag := flag_of(option)) in titles:
            option.rich_help_panel = titles[flag]
    options: list[Any] = command.params
    options.sort(key=lambda option: places.get(flag_of(option), 0))


def flag_of(option: Any) -> str:
    """The name of a flag without dashes; empty for an argument."""
    return next((flag[2:] for flag in option.opts if flag.startswith("--")), "")
