"""The flags of `embedfleet run`, checked and passed to a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ....protocol.spec.run_spec import Backend, Dtype, Index, Storage
from ....protocol.wire.run_options import Placement
from ...completion.models import dense_models, heads_models, multivector_models, rerank_models, sparse_models
from ...completion.run_directories import run_directories
from ..flag_types import AsJson, Devices, EnsembleName, Otlp, TrustsCode, is_given, local_path
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
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="JSONL (.gz, .zst), Parquet, a folder, s3://, gs://, az://, https://, hf://, or - for stdin.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=local_path,
            autocompletion=run_directories,
            help="The run directory, also s3://, gs://, az://. The same command resumes. Default: c.embedfleet beside c.jsonl.",
        ),
    ] = None,
    dense: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            autocompletion=dense_models,
            help="Dense model: alias, hub id or folder; NAME is the vector's. Repeatable.",
        ),
    ] = None,
    sparse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            autocompletion=sparse_models,
            help="bm25, metadata, or a learned sparse model. Repeatable.",
        ),
    ] = None,
    multivector: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", autocompletion=multivector_models, help="Late-interaction model. Repeatable."),
    ] = None,
    heads: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            autocompletion=heads_models,
            help="bge-m3: dense, sparse and multivector in one pass.",
        ),
    ] = None,
    devices: Devices = None,
    text_field: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field of the text, or path (a.b). Default: text, page_content or content."),
    ] = None,
    id_field: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field of the id; none numbers the chunks. Default: chunk_id, id, _id, …"),
    ] = None,
    title_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field put before the text; none leaves titles out. Default: title.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Stop after N chunks.")] = None,
    index: Annotated[Index, typer.Option(help="Publish an embedded Qdrant Edge shard, or nothing.")] = "edge",
    dtype: Annotated[
        Dtype,
        typer.Option(
            metavar="TYPE",
            help="float32, bfloat16, float16, or auto: float32 on a CPU, bfloat16 or float16 on GPUs.",
        ),
    ] = "auto",
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Truncate texts to N tokens. Default: the model's limit.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Put before each text. Default: the model's own.")
    ] = None,
    query_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Put before each query, here and in search. Default: the model's own."),
    ] = None,
    trust_remote_code: TrustsCode = False,
    no_fallback: Annotated[
        bool,
        typer.Option("--no-fallback", metavar="", help="Do not use metadata weights where a sparse model fails."),
    ] = False,
    max_active_dims: Annotated[
        int | None, typer.Option(metavar="N", help="Learned sparse: keep the N largest weights.")
    ] = None,
    pool_factor: Annotated[int, typer.Option(metavar="N", help="Multivectors: pool N tokens into one.")] = 1,
    truncate_dim: Annotated[
        int | None, typer.Option(metavar="N", help="Dense: keep N leading components, normalized again.")
    ] = None,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            metavar="",
            help="Accept a model for the dot product: normalize its vectors, compare by cosine.",
        ),
    ] = False,
    store: Annotated[
        Storage, typer.Option(metavar="TYPE", help="Of dense vectors in files: float32, float16, int8 or binary.")
    ] = "float32",
    ensemble: Annotated[
        list[EnsembleName] | None,
        typer.Option(metavar="METHOD", help="One more vector made of all dense ones: concat or average. Repeatable."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="A,B", help="Weights of the ensemble, one per dense model. Default: equal.")
    ] = None,
    project: Annotated[
        bool,
        typer.Option(
            "--project", metavar="", help="Average: bring longer vectors down to the shortest, by a random projection."
        ),
    ] = False,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="Q.jsonl", parser=local_path, help="Then find chunks for these queries (JSON lines of id and text)."
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(metavar="F", parser=local_path, help="Judgements (BEIR or TREC): evaluate every signal."),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            autocompletion=rerank_models,
            help="A cross-encoder that orders the fused candidates.",
        ),
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(metavar="N", help="Chunks per query, of each signal and of the fusion. Default: 100.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Chunks per query in export/rerank.jsonl. Default: 10.")
    ] = None,
    signals: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S,S", help="With --queries: fuse only these vectors or forms, as in search. Default: all."
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--export", metavar="F,F", help="Formats written to DIR/export at the end, or all: see `embedfleet export`."
        ),
    ] = None,
    sparse_device: Annotated[
        Placement,
        typer.Option(help="Learned sparse models: cpu (beside the GPU passes), gpu, or auto (by the source's size)."),
    ] = "auto",
    backend: Annotated[
        Backend,
        typer.Option(
            metavar="NAME",
            help="torch: texts padded to one length; torch-packed: without padding; openvino, and onnx (the graph that a model "
            "brings): CPUs only; auto: see models.",
        ),
    ] = "auto",
    batch_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Kill a worker without progress for so long. Default: by the measured speed."
        ),
    ] = None,
    load_timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Time to load a model. Default: 3600, then 300 to move it to the device."),
    ] = None,
    cpu_fallback: Annotated[
        bool,
        typer.Option("--cpu-fallback", metavar="", help="If every GPU is given up, go on with a CPU slot, slowly."),
    ] = False,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time to finish batches in flight after SIGTERM or SIGHUP.")
    ] = 25.0,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only part I (from 0) of N parts, into DIR/shards; `embedfleet merge` joins them."
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(metavar="N", help="In N parts, one after another, then merged: what is done stays done."),
    ] = None,
    on: Annotated[
        Literal["ray"] | None,
        typer.Option(
            metavar="ENGINE", help="ray: have the nodes of a Ray cluster run the shards, then merge them here."
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The Ray cluster to join. Default: the one that this host is in."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", metavar="", help="Delete what an earlier run wrote there; start over.")
    ] = False,
    spool: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=local_path,
            help="With --out s3://: the local folder to work in. Default: in your cache.",
        ),
    ] = None,
    keep_spool: Annotated[
        bool, typer.Option("--keep-spool", metavar="", help="Keep that folder when the run is done.")
    ] = False,
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
    from ....protocol.wire.run_options import RunOptions, check_options
    from ...options.retrieval_options import plan_if_asked
    from ...options.run_defaults import default_models, default_out
    from ...options.shard_flags import check_engine, choose_shards
    from ...options.spec_builder import build_spec, split_names
    from ...options.spec_values import model_values, spec_values
    from ...options.stdin_check import check_stdin
    from ...steps.next_steps import shown_path
    from ...steps.remote_out import open_out

    notes: list[str] = []
    if out is None:
        out = default_out(source)
        notes.append(f"without --out, the run directory is {shown_path(out)}")
    enter = None if write_config or on is not None else context.with_resource
    folder, index, shown, remote, collection = open_out(
        out,
        index,
        spool,
        keep_spool=keep_spool,
        index_is_typed=is_given(context, "index"),
        searched=queries is not None,
        enter=enter,
        notes=notes,
        shard=shard,
    )
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
