"""`embedfleet plan`: the size, time and cost of a run before it begins."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...completion.run_directories import run_directories
from ...options.spec_values import MODEL_FLAGS, SPEC_FLAGS
from ..flag_types import AsJson, is_given, local_path
from .flags import run_request

if TYPE_CHECKING:
    from ...planning.plan import Plan

OF_RUN = ("devices", "backend", "sparse_device", "config", *MODEL_FLAGS, *SPEC_FLAGS)
"""Parameters of `embedfleet run` that a plan takes too."""


def with_flags_of_run(function: Callable[..., None]) -> Callable[..., None]:
    """The function with these parameters of `run` in place of its `**flags`: Typer makes the same flags of them."""
    own = inspect.signature(function, eval_str=True)
    theirs = inspect.signature(run_request, eval_str=True).parameters
    named = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    vars(function)["__signature__"] = own.replace(parameters=[*named, *(theirs[name] for name in OF_RUN)])
    return function


@with_flags_of_run
def plan(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="As of a run. With --compare: the file that --write made.")
    ],
    gpus: Annotated[
        str | None, typer.Option(metavar="NxKIND", help="GPUs that need not be here: 8xH100, 2xT4. Not with --devices.")
    ] = None,
    shards: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Plan for run --shards N, and for one shard by its own command."),
    ] = 1,
    price: Annotated[
        float | None, typer.Option(metavar="P", help="Of one hour of all devices, in any currency: shows the cost.")
    ] = None,
    measure: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Embed a sample on the devices here for about so long, to time it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=local_path,
            autocompletion=run_directories,
            help="The run directory, also s3://, gs://, az://. Rates of a run in it count. Default: that of a run.",
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=local_path, help="Write the plan there too, as JSON, for --compare."),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=local_path, help="Show a written plan beside the finished run in DIR."),
    ] = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Tell rows, tokens, bytes, memory, time and cost of a run before it begins."""
    from ...arguments import expand_path, run_folder
    from ...output.json_output import print_json
    from ...planning import comparison
    from ...planning.page import print_comparison, print_plan

    if compare is not None:
        found = comparison.compare(comparison.read_plan(expand_path(source, "SOURCE")), run_folder(compare))
        if as_json:
            print_json([{**_fields(one), "ratio": one.ratio} for one in found])
        else:
            print_comparison(found)
        return
    made = _make(source, out, gpus, shards, price, measure, flags, index_is_given=is_given(context, "index"))
    if write is not None:
        comparison.write_plan(made, expand_path(write, "--write"))
    if as_json:
        print_json(_fields(made))
    else:
        print_plan(made)


def _make(
    source: str,
    out: Path | None,
    gpus: str | None,
    shards: int,
    price: float | None,
    measure: float | None,
    flags: dict[str, Any],
    *,
    index_is_given: bool,
) -> Plan:
    from ....protocol.object_storage.address import Address, is_address
    from ....protocol.planning.gpus import parse_gpus
    from ....protocol.source.corpus import STDIN
    from ....protocol.wire.run_options import RunOptions
    from ...options.run_defaults import default_models, default_out
    from ...options.spec_builder import build_spec
    from ...options.spec_values import model_values, spec_values
    from ...output.messages import messages
    from ...planning.planner import PlanRequest, plan_run, planned_out

    out = out if out is not None or source == STDIN or is_address(source) else default_out(source)
    folder = None if out is None else planned_out(out, "--out")
    if isinstance(folder, Address) and not index_is_given:
        flags |= {"index": "none"}
        messages().say(f"--index none: no collection is made in {folder}")
    models = model_values(flags)
    if not any(models.values()):
        models["dense"], models["sparse"] = default_models(source)
        messages().say(f"no model is named: planning for --dense {models['dense'][0]} and --sparse bm25")
    spec = build_spec(source, **models, out=folder if isinstance(folder, Path) else None, **spec_values(flags))
    request = PlanRequest(
        out=folder,
        devices=flags["devices"],
        gpus=parse_gpus(gpus) if gpus is not None else None,
        shards=shards,
        price=price,
        measure=measure,
        options=RunOptions(sparse_device=flags["sparse_device"], backend=flags["backend"]),
    )
    return plan_run(spec, request, messages().say)


def _fields(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
