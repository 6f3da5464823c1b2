"""`--config` and `--write-config`: the flags of a run from a file, and as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ....protocol.spec.run_spec import RunSpec

if TYPE_CHECKING:
    from ...config.known_flags import Flag
    from ...options.retrieval_plan import RetrievalPlan

Types = Callable[[], dict[str, Any]]


def read_config_file(context: typer.Context, path: Path | None, types: Types) -> Path | None:
    """Make the values in the file the defaults of the flags, whose types `types` returns."""
    if path is not None and not context.resilient_parsing:
        from ...config.reader import read_config

        context.default_map = read_config(path, _flags(context, types))
    return path


def _flags(context: typer.Context, types: Types) -> dict[str, Flag]:
    """The flags that a file can give, of `embedfleet run` also where another command takes some of them."""
    from ...config.known_flags import known_flags
    from ...flags.output_flags import output_types

    group: Any = context.find_root().command
    command = getattr(group, "commands", {}).get("run", context.command)
    return known_flags(command.params, types() | output_types())


def config_of(
    context: typer.Context, spec: RunSpec, folder: Path | str, plan: RetrievalPlan | None, types: Types
) -> str:
    """The flags as TOML, with absolute paths and with the models and the folder that were chosen."""
    from ...config.known_flags import given_values
    from ...config.writer import config_text
    from ...options.spec_flags import model_argument, spec_flags

    values = given_values(context) | spec_flags(spec) | {"out": folder}
    if plan is not None:
        values |= {"queries": plan.queries, "qrels": plan.qrels}
        if plan.rerank is not None:
            values["rerank"] = model_argument(plan.rerank)
    flags = _flags(context, types)
    return config_text({name: values[flag.parameter] for name, flag in flags.items() if flag.parameter in values})
