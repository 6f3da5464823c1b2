"""The command line. Every command imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..protocol.errors import EXIT_FAILED, EXIT_INTERRUPTED, EmbedfleetError
from ..protocol.version import __version__

app = typer.Typer(
    name="embedfleet",
    help="Every retrieval signal for every chunk of a corpus, over all GPUs, with nothing lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class IndexKind(StrEnum):
    """What is published."""

    edge = "edge"
    none = "none"


class DtypeName(StrEnum):
    """Number format of the weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class StorageName(StrEnum):
    """How dense vectors are kept."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"
    binary = "binary"


class EnsembleName(StrEnum):
    """How several dense vectors become one."""

    concat = "concat"
    average = "average"


class QuantizationName(StrEnum):
    """How a collection compresses dense vectors."""

    none = "none"
    scalar = "scalar"

    @property
    def chosen(self) -> Literal["scalar"] | None:
        return "scalar" if self is QuantizationName.scalar else None


Devices = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="cuda:0,cuda:1 | GPU UUIDs | cpu | cpu:2. Default: all GPUs, else one CPU slot."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `embedfleet run` wrote to.")]
Quantized = Annotated[QuantizationName, typer.Option(help="Of a collection that is made: none, or scalar (int8).")]
Otlp = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Send OpenTelemetry spans there over HTTP, as in http://localhost:4318."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable: JSON on standard output.")]


@app.command()
def run(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="JSONL (.gz, .zst), Parquet, a folder, or - for stdin.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run directory. The same command resumes there.")],
    dense: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Dense model: alias, hub id or folder. Repeatable.")
    ] = None,
    sparse: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="bm25, metadata, or a learned sparse model. Repeatable.")
    ] = None,
    multivector: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Late-interaction model. Repeatable.")
    ] = None,
    heads: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="bge-m3: dense, sparse and multivector in one pass.")
    ] = None,
    devices: Devices = None,
    text_field: Annotated[str | None, typer.Option(metavar="F", help="Default: text, page_content or content.")] = None,
    id_field: Annotated[str | None, typer.Option(metavar="F", help="Default: id, chunk_id, _id or id_.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Stop after N chunks.")] = None,
    index: Annotated[
        IndexKind, typer.Option(help="Publish an embedded Qdrant Edge shard, or nothing.")
    ] = IndexKind.edge,
    dtype: Annotated[
        DtypeName, typer.Option(help="auto: float32 on a CPU, bfloat16 or float16 on GPUs.")
    ] = DtypeName.auto,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Truncate texts there. Default: the model's.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Before each text. Default: the model's own.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with a model, with your rights.")
    ] = False,
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="A sparse model that fails is an error; no metadata weights instead.")
    ] = False,
    max_active_dims: Annotated[
        int | None, typer.Option(metavar="N", help="Learned sparse: keep the N largest weights.")
    ] = None,
    pool_factor: Annotated[int, typer.Option(metavar="N", help="Multivectors: pool N tokens into one.")] = 1,
    truncate_dim: Annotated[
        int | None, typer.Option(metavar="N", help="Dense: keep N leading components, normalized again.")
    ] = None,
    store: Annotated[StorageName, typer.Option(help="How dense vectors are kept in files.")] = StorageName.float32,
    ensemble: Annotated[
        list[EnsembleName] | None, typer.Option(help="One more vector made of all dense ones. Repeatable.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of the ensemble, one a dense model. Default: equal.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(metavar="Q.jsonl", help="Then find chunks for these queries (id and text a line).")
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(metavar="F", help="Judgements (BEIR or TREC): evaluate every signal.")
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A cross-encoder that orders the fused candidates.")
    ] = None,
    candidates: Annotated[int, typer.Option(metavar="N", help="Of each signal and of the fusion, a query.")] = 100,
    top_k: Annotated[int, typer.Option(metavar="K", help="Chunks a query in export/rerank.jsonl.")] = 10,
    restart: Annotated[
        bool, typer.Option("--restart", help="Delete what an earlier run wrote there; start over.")
    ] = False,
    otlp: Otlp = None,
    as_json: AsJson = False,
) -> None:
    """Embed a corpus into a run directory and publish a searchable collection."""
    from .retrieval_flags import build_plan
    from .run_command import run as execute
    from .spec_flags import build_spec

    spec = build_spec(
        source,
        dense=dense or [],
        sparse=sparse or [],
        multivector=multivector or [],
        heads=heads or [],
        text_field=text_field,
        id_field=id_field,
        limit=limit,
        index=index.value,
        dtype=dtype.value,
        max_tokens=max_tokens,
        prompt=prompt,
        trust_remote_code=trust_remote_code,
        fallback=not no_fallback,
        max_active_dims=max_active_dims,
        pool_factor=pool_factor,
        truncate_dim=truncate_dim,
        storage=store.value,
        ensemble=[one.value for one in ensemble or []],
        weights=weights,
    )
    plan = build_plan(
        queries,
        qrels=qrels,
        rerank=rerank,
        candidates=candidates,
        top_k=top_k,
        index=index.value,
        dtype=dtype.value,
        trust_remote_code=trust_remote_code,
    )
    raise typer.Exit(
        execute(spec, out.absolute(), devices=devices, restart=restart, otlp=otlp, as_json=as_json, plan=plan)
    )


@app.command()
def search(
    folder: RunFolder,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    top_k: Annotated[int, typer.Option(metavar="N", help="How many hits.")] = 10,
    signals: Annotated[
        list[str] | None,
        typer.Option(metavar="S,S", help="Vectors to use, by name or form (dense, sparse, multivector). Default: all."),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="KEY=VALUE", help="Only chunks whose metadata.KEY is VALUE. Repeatable."),
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A cross-encoder that orders the first hits anew.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search a run: the candidates of every signal, fused by the engine, with the score of each."""
    from .search import search as find
    from .spec_flags import split_filters, split_names
    from .tables import print_hits

    hits = find(folder, query, top_k, signals=split_names(signals), filters=split_filters(filters or []), rerank=rerank)
    if as_json:
        _print_json([{name: getattr(hit, name) for name in hit.__slots__} for hit in hits])
    else:
        print_hits(hits)


@app.command()
def verify(folder: RunFolder, as_json: AsJson = False) -> None:
    """Recount rows, ids, dimensions, norms and digests of a run; exit code 1 where something is wrong."""
    from .tables import print_report
    from .verify import verify_run

    report = verify_run(folder)
    if as_json:
        from dataclasses import asdict

        _print_json({"ok": report.ok, **asdict(report)})
    else:
        print_report(report)
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def info(folder: RunFolder, as_json: AsJson = False) -> None:
    """What a run directory holds."""
    from .info import describe_run
    from .tables import print_info

    described = describe_run(folder)
    if as_json:
        _print_json(described)
    else:
        print_info(described)


@app.command()
def export(
    folder: RunFolder,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="F,F",
            help="jsonl, npy, sparse-jsonl, multivector-jsonl, metadata, upload-script. Default: all that apply.",
        ),
    ] = None,
    quantization: Quantized = QuantizationName.none,
    as_json: AsJson = False,
) -> None:
    """Write a finished run's vectors, points and metadata to files in DIR/export."""
    from .export_command import export as execute
    from .spec_flags import split_names

    raise typer.Exit(execute(folder, split_names(formats), quantization.chosen, as_json=as_json))


@app.command()
def upload(
    folder: RunFolder,
    url: Annotated[str, typer.Option(metavar="URL", help="The Qdrant server, as in http://localhost:6333.")],
    collection: Annotated[
        str | None, typer.Option(metavar="C", help="Made where it is not there. Default: the folder's name.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="V", help="The environment variable that holds the API key.")
    ] = None,
    streams: Annotated[int, typer.Option(metavar="N", min=1, max=4, help="Requests side by side.")] = 2,
    batch: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Points in a request, at most.")] = 256,
    quantization: Quantized = QuantizationName.none,
    grpc: Annotated[bool, typer.Option("--grpc/--no-grpc", help="gRPC, or REST.")] = True,
    grpc_port: Annotated[int, typer.Option(metavar="PORT", help="Where the server listens for gRPC.")] = 6334,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long building the index may take.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Load a finished run into a Qdrant server; what is there already is not sent again."""
    from .upload_command import upload as execute

    raise typer.Exit(
        execute(
            folder,
            url,
            collection,
            api_key_env=api_key_env,
            streams=streams,
            batch_points=batch,
            quantization=quantization.chosen,
            grpc=grpc,
            grpc_port=grpc_port,
            green_seconds=wait,
            as_json=as_json,
        )
    )


@app.command()
def serve(
    bind: Annotated[
        str, typer.Option(metavar="ADDR", help="ipc:///folder or tcp://127.0.0.1:PORT (and the two after).")
    ],
    devices: Devices = None,
    no_devices: Annotated[
        bool, typer.Option("--no-devices", help="Offer none of this host; agents will attach.")
    ] = False,
    otlp: Otlp = None,
) -> None:
    """Run a coordinator that others submit to; SIGTERM or Ctrl-C drains it."""
    from .daemons import serve as execute

    raise typer.Exit(execute(bind, devices, no_devices=no_devices, otlp=otlp))


@app.command()
def worker(
    connect: Annotated[str, typer.Option(metavar="ADDR", help="Where the coordinator listens.")],
    devices: Devices = None,
    patience: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for a coordinator.")] = 60.0,
) -> None:
    """Attach this host's devices to a coordinator, at any time."""
    from .daemons import attach

    raise typer.Exit(attach(connect, devices, patience))


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"embedfleet {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction] - typer registers it
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _print_json(value: Any) -> None:
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, default=str) + b"\n")


def main() -> None:
    """Entry point: every error that a user can meet is one message on standard error and an exit code."""
    try:
        app()
    except EmbedfleetError as error:
        sys.stderr.write(f"embedfleet: error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
