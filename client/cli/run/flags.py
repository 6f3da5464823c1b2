"""The flags of `embedfleet run`, checked and passed to a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ..flag_types import AsJson, Devices, Otlp, TrustsCode, is_given, local_path
from . import host_flags, ranking_flags, shard_flags, source_flags, vector_flags
from .config_flags import config_of, read_config_file
from .request import AfterRun, RunRequest


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    return read_config_file(context, path, _types)


def _types() -> dict[str, Any]:
    """The types of the flags."""
    return get_type_hints(run_request)


def with_run_flags(name: str, work: Callable[[RunRequest], int], about: str) -> Callable[..., None]:
    """A command that takes the flags of a run and does `work`, which returns the exit code; `about` is its help."""

    @wraps(run_request)
    def command(*arguments: Any, **flags: Any) -> None:
        raise typer.Exit(work(run_request(*arguments, **flags)))

    command.__name__ = name
    command.__doc__ = about
    return command


def run_request(
    context: typer.Context,
    source: source_flags.Source,
    out: host_flags.Out = None,
    dense: vector_flags.Dense = None,
    sparse: vector_flags.Sparse = None,
    multivector: vector_flags.Multivector = None,
    heads: vector_flags.Heads = None,
    devices: Devices = None,
    text_field: source_flags.TextField = None,
    id_field: source_flags.IdField = None,
    title_field: source_flags.TitleField = None,
    limit: source_flags.Limit = None,
    index: vector_flags.CollectionIndex = "edge",
    dtype: host_flags.ComputeType = "auto",
    max_tokens: vector_flags.MaxTokens = None,
    prompt: vector_flags.Prompt = None,
    query_prompt: vector_flags.QueryPrompt = None,
    trust_remote_code: TrustsCode = False,
    no_fallback: vector_flags.NoFallback = False,
    max_active_dims: vector_flags.MaxActiveDims = None,
    pool_factor: vector_flags.PoolFactor = 1,
    truncate_dim: vector_flags.TruncateDim = None,
    normalize: vector_flags.Normalize = False,
    store: vector_flags.DenseStorage = "float32",
    ensemble: vector_flags.Ensemble = None,
    weights: vector_flags.Weights = None,
    project: vector_flags.Project = False,
    queries: ranking_flags.Queries = None,
    qrels: ranking_flags.Qrels = None,
    rerank: ranking_flags.Rerank = None,
    candidates: ranking_flags.Candidates = None,
    top_k: ranking_flags.TopK = None,
    signals: ranking_flags.Signals = None,
    formats: ranking_flags.Formats = None,
    sparse_device: host_flags.SparseDevice = "auto",
    backend: host_flags.ModelBackend = "auto",
    batch_timeout: host_flags.BatchTimeout = None,
    load_timeout: host_flags.LoadTimeout = None,
    cpu_fallback: host_flags.CpuFallback = False,
    grace: host_flags.Grace = 25.0,
    shard: shard_flags.OneShard = None,
    shards: shard_flags.ShardCount = None,
    on: shard_flags.Engine = None,
    ray_address: shard_flags.RayAddress = None,
    restart: host_flags.Restart = False,
    spool: host_flags.Spool = None,
    keep_spool: host_flags.KeepSpool = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=local_path,
            callback=_read_config,
            is_eager=True,
            help="Flags from a TOML file, or the spec.json of a run. Typed flags win.",
        ),
    ] = None,
    write_config: Annotated[
        bool, typer.Option("--write-config", metavar="", help="Only print the flags as TOML, for --config.")
    ] = False,
    otlp: Otlp = None,
    as_json: AsJson = False,
) -> RunRequest:
    """Check the flags. UsageError or SourceError names the flag and the remedy; with `--write-config`, print them and exit."""
    flags = dict(locals())
    from msgspec.structs import replace

    from ....protocol.run_directory.layout import RunLayout
    from ....protocol.source.corpus import STDIN
    from ....protocol.spec.export_formats import choose_formats
    from ....protocol.spec.shard import parse_shard
    from ....protocol.wire.run_options import RunOptions, check_options
    from ...options.retrieval_options import plan_if_asked
    from ...options.run_defaults import default_models, default_out
    from ...options.shard_flags import check_engine, choose_shards
    from ...options.spec_builder import build_spec, split_names
    from ...options.spec_values import model_values, spec_values
    from ...options.stdin_check import check_stdin
    from ...output.messages import messages
    from ...steps.merged_run import refuse_stored_shards
    from ...steps.next_steps import shown_path
    from ...steps.remote_out import find_out, part_of

    notes: list[str] = []
    if out is None:
        out = default_out(source)
        notes.append(f"without --out, the run directory is {shown_path(out)}")
    folder, index, shown, remote, collection = find_out(
        out,
        index,
        spool,
        keep_spool=keep_spool,
        index_is_typed=is_given(context, "index"),
        searched=queries is not None,
        is_shard=shard is not None,
        notes=notes,
    )
    later = queries is not None or bool(formats) or collection
    if remote is not None and not write_config and shards is None and on is None:
        part = part_of(parse_shard(shard).index) if shard is not None else ""
        held = context.with_resource(remote.held(part, messages().say))
        if context.command.name == "run" and shard is None:  # and not `fit`, which takes a directory of shards
            refuse_stored_shards(held.objects, restart=restart, later=later)
        folder = held.fetch()
    models = model_values(flags)
    if not any(models.values()):
        models["dense"], models["sparse"] = default_models(source)
        notes.append(f"no model is named: taking --dense {models['dense'][0]}, which needs no hub, and --sparse bm25")
    spec = build_spec(source, **models, out=None if restart else folder, **spec_values(flags | {"index": index}))
    if spec.source == STDIN and not restart:
        check_stdin(RunLayout(folder), spec)
    plan = plan_if_asked(
        queries,
        qrels=qrels,
        rerank=rerank,
        candidates=candidates,
        top_k=top_k,
        signals=split_names(signals, "--signals"),
        spec=replace(spec, index="edge") if collection else spec,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    options = RunOptions(
        batch_timeout=batch_timeout,
        load_timeout=load_timeout,
        cpu_fallback=cpu_fallback,
        sparse_device=sparse_device,
        backend=backend,
    )
    check_options(options)
    one, count = choose_shards(shard, shards, spec, later=plan is not None or bool(formats))
    check_engine(on, ray_address, shard, spec)
    exported = choose_formats(split_names(formats, "--export"), spec) if formats else ()
    steps = AfterRun(plan, exported, collection)
    if write_config:
        sys.stdout.write(config_of(context, spec, shown, plan, _types))
        raise typer.Exit
    return RunRequest(
        spec=spec,
        out=folder,
        remote=remote,
        options=options,
        after=steps,
        devices=devices,
        restart=restart,
        otlp=otlp,
        as_json=as_json,
        grace=grace,
        notes=notes,
        shard=one,
        shards=count,
        on=on,
        ray_address=ray_address,
    )
