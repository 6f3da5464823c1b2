"""What users of other versions rely on: commands and flags, exit codes, names of files. Nothing here goes without a release."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedfleet
import typer.main
from embedfleet.client.cli.app import app
from embedfleet.protocol import errors
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.export_formats import FORMATS

FLAGS = {
    "run": "backend batch-timeout candidates config cpu-fallback dense devices dtype ensemble export grace heads id-field "
    "index json keep-spool limit load-timeout max-active-dims max-tokens multivector no-fallback normalize on otlp out "
    "pool-factor project prompt qrels queries query-prompt ray-address rerank restart shard shards signals sparse "
    "sparse-device spool store text-field title-field top-k truncate-dim trust-remote-code weights write-config quiet "
    "verbose log-file no-color progress",
    "fit": "backend batch-timeout candidates config cpu-fallback dense devices dtype ensemble export grace heads id-field "
    "index json keep-spool limit load-timeout max-active-dims max-tokens multivector no-fallback normalize on otlp out "
    "pool-factor project prompt qrels queries query-prompt ray-address rerank restart shard shards signals sparse "
    "sparse-device spool store text-field title-field top-k truncate-dim trust-remote-code weights write-config quiet no-color "
    "verbose log-file progress",
    "plan": "backend compare config dense devices dtype ensemble gpus heads id-field index json limit max-active-dims "
    "max-tokens measure multivector no-fallback normalize out pool-factor price project prompt query-prompt shards sparse "
    "sparse-device store text-field title-field truncate-dim trust-remote-code weights write no-color quiet",
    "search": "candidates filter full json no-color quiet rerank signals timeout timings top-k trust-remote-code",
    "query-vectors": "candidates json no-color signals timeout top-k",
    "verify": "json no-color quiet",
    "info": "json no-color",
    "merge": "json log-file no-color on-duplicate progress quiet",
    "export": "format json no-color quantization quiet",
    "upload": "api-key-env batch collection cut-payload grpc grpc-port hnsw-m json max-request on-disk payload-index prune "
    "quantization replace replicas shard shards finish streams url wait quiet log-file no-color progress",
    "doctor": "json no-color",
    "models": "json no-color",
    "serve": "bind devices grace no-devices otlp",
    "worker": "connect devices patience",
}
EXIT_CODES = {
    "DONE": 0,
    "FAILED": 1,
    "USAGE": 2,
    "QUARANTINED": 3,
    "INTERRUPTED": 130,
    "TERMINATED": 143,
    "HUNG_UP": 129,
}
FILES = {
    "spec.json", "manifest.json", "stats.json", "events.jsonl", "quarantine.jsonl", ".lock", "published.json", "qdrant",
    "chunks", "intake", "intake/limits.json", "intake/counts.json", "intake/source.json", "intake/source.sha256",
    "intake/.ids.sqlite", "vectors", "passes", "cache", "queries", "rerank", "rerank/candidates.parquet", "rerank/pairs.jsonl",
    "rerank/candidates.json", "rerank/run", "rerank/ranking.parquet", "rerank/rerank_run.json", "rerank/report.json", "export",
    "export/export.json", "export/collection.json", "export/table", "export/rerank.jsonl", "export/report.html",
    "export/evaluation.json", "shards.json", "shards", "merge.json", "fit.json",
}  # fmt: skip


def test_commands_and_flags() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue] - a group
    flags = {
        name: sorted(flag.removeprefix("--") for one in command.params for flag in one.opts if flag.startswith("--"))
        for name, command in commands.items()
    }
    assert flags == {name: sorted(spelled.split()) for name, spelled in FLAGS.items()}
    assert {name: [one.opts for one in command.params] for name, command in commands["models"].commands.items()} == {
        "pull": [["names"], ["--json"], ["--no-color"]]
    }


def test_exit_codes() -> None:
    assert {
        name.removeprefix("EXIT_"): code for name, code in vars(errors).items() if name.startswith("EXIT_")
    } == EXIT_CODES


def test_files_of_a_run_directory() -> None:
    layout = RunLayout(Path("/run"))
    properties = [name for name, kind in inspect.getmembers(RunLayout) if isinstance(kind, property)]
    paths = [getattr(layout, name) for name in properties]
    assert {path.relative_to("/run").as_posix() for path in paths if isinstance(path, Path)} == FILES
    assert layout.chunk_segment(7).relative_to("/run").as_posix() == "chunks/00007.parquet"
    assert layout.rejected_segment(7).relative_to("/run").as_posix() == "intake/00007.rejected.jsonl"
    assert layout.vector_segment("dense-x", 7).relative_to("/run").as_posix() == "vectors/dense-x/00007.parquet"
    assert layout.pass_file("dense-x").relative_to("/run").as_posix() == "passes/dense-x.json"


def test_export_formats() -> None:
    assert list(FORMATS) == [
        "jsonl",
        "npy",
        "sparse-jsonl",
        "multivector-jsonl",
        "metadata",
        "parquet",
        "upload-script",
    ]


KNOWN = {
    *dir(builtins),
    "Any",
    "Callable",
    "Iterator",
    "Literal",
    "Mapping",
    "NotRequired",
    "Path",
    "PathLike",
    "Sequence",
}
KNOWN |= {"TracebackType", "np", "npt", "os", "pa"}
CONSTRUCTED = {"Client", "Embedder"}
"""Classes whose instances a user makes; the others are returned, or have fields only."""


def annotations(name: str) -> Iterator[str]:
    """The annotations of what a public name stands for: of its arguments and result, or of its fields and public methods."""
    value = getattr(embedfleet, name)
    if inspect.isfunction(value):
        yield from value.__annotations__.values()
    if not inspect.isclass(value) or not value.__module__.startswith("embedfleet."):
        return
    for field, kind in vars(value).get("__annotations__", {}).items():
        if not field.startswith("_"):
            yield getattr(kind, "__forward_arg__", kind)  # of a TypedDict
    for method, member in vars(value).items():
        function = getattr(member, "fget", getattr(member, "func", getattr(member, "__func__", member)))
        shown = not method.startswith("_") or method == "__iter__" or (method == "__init__" and name in CONSTRUCTED)
        if shown and inspect.isfunction(function):
            yield from function.__annotations__.values()


def test_all_that_a_public_signature_names_is_public() -> None:
    found = {
        (node.id, name)
        for name in embedfleet.__all__
        for kind in annotations(name)
        for node in ast.walk(ast.parse(kind, mode="eval"))
        if isinstance(node, ast.Name)
    }
    assert {
        ("RunOptions", "Client"),
        ("QuarantineLine", "Run"),
        ("RankedChunk", "Ranking"),
        ("Hit", "Embedder"),
    } <= found
    assert sorted((named, by) for named, by in found if named not in KNOWN and named not in embedfleet.__all__) == []
