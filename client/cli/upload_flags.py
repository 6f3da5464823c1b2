"""The flags of `embedfleet upload`."""

from __future__ import annotations

from typing import Annotated

import typer

from .flag_types import AsJson, Quantized, RunFolder


def upload(
    folder: RunFolder,
    url: Annotated[str, typer.Option(metavar="URL", help="The Qdrant server, as in http://localhost:6333.")],
    collection: Annotated[
        str | None, typer.Option(metavar="C", help="Created if it does not exist. Default: the folder's name.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="V", help="The environment variable that holds the API key.")
    ] = None,
    streams: Annotated[int, typer.Option(metavar="N", min=1, max=4, help="Requests at a time.")] = 2,
    batch: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Points in a request, at most.")] = 256,
    quantization: Quantized = None,
    payload_index: Annotated[
        list[str] | None,
        typer.Option(
            metavar="F,F",
            help="Fields to index for filters: keys of the metadata, or id, row, text; F:TYPE gives the type. Repeatable.",
        ),
    ] = None,
    hnsw_m: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=512, help="Edges of a node in the graph; 0: no graph.")
    ] = None,
    on_disk: Annotated[
        bool, typer.Option("--on-disk", metavar="", help="Keep vectors on the server's disk, not in its memory.")
    ] = False,
    shards: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=10_000, help="Shards of a new collection, on the server.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(metavar="N", min=1, max=100, help="Copies of each shard.")] = None,
    grpc: Annotated[bool, typer.Option("--grpc/--no-grpc", metavar="", help="gRPC, or REST.")] = True,
    grpc_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65_535, help="Where the server listens for gRPC.")
    ] = 6334,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long building the index may take.")
    ] = 3600.0,
    max_request: Annotated[
        int, typer.Option(metavar="MIB", min=1, max=4096, help="The server's limit on the size of a request.")
    ] = 32,
    cut_payload: Annotated[
        bool,
        typer.Option(
            "--cut-payload", metavar="", help="Send a chunk above --max-request with a shortened text and no metadata."
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", metavar="", help="Overwrite chunks with the same generated id (FILE#NUMBER)."),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", metavar="", help="Then delete embedfleet's points that are not in this run.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only shard I (from 0) of the N of DIR, from this host; others send theirs."),
    ] = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", metavar="", help="After all shards of DIR: check that each is there whole, and index."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Load a finished run into a Qdrant server; points that are there already are not sent again."""
    from ...protocol.errors import UsageError
    from ...protocol.spec.shard import parse_shard
    from ..options.spec_builder import split_names
    from ..upload.collection_options import CollectionOptions
    from .upload_request import UploadRequest

    if collection is not None and not collection.strip():
        raise UsageError(f"--collection {collection!r}: is empty; give a name, or leave it out for the folder's")
    request = UploadRequest(
        root=folder,
        url=url,
        collection=collection,
        api_key_env=api_key_env,
        streams=streams,
        batch_points=batch,
        quantization=quantization,
        options=CollectionOptions(hnsw_m, on_disk, shards, replicas),
        payload_index=split_names(payload_index, "--payload-index"),
        grpc=grpc,
        grpc_port=grpc_port,
        green_seconds=wait,
        max_request=max_request,
        cut_payload=cut_payload,
        replace=replace,
        prune=prune,
        as_json=as_json,
        shard=parse_shard(shard) if shard is not None else None,
        finish=finish,
    )
    request.check()
    if request.shard is not None:
        from .upload_shards import upload_one_shard as execute
    elif request.finish:
        from .upload_shards import finish_shards as execute
    else:
        from .upload_command import upload as execute
    raise typer.Exit(execute(request))
