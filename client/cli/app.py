"""The commands. Each imports its modules only when it runs, so that --help is fast."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...protocol.errors import EXIT_DONE, EXIT_FAILED, EXIT_QUARANTINED
from ...protocol.process.standard_streams import guard_standard_streams
from ...protocol.version import __version__
from ..completion.run_directories import run_directories
from ..flags.command_group import CommandGroup
from ..output.exit_code import exit_code_of
from ..output.json_output import print_json
from ..output.messages import messages
from .flag_types import COORDINATOR, AsJson, Devices, Otlp, Quantized, RunFolder, local_path
from .models_command import models
from .run.commands import fit, run
from .run.plan_command import plan
from .search.commands import query_vectors, search
from .upload_flags import upload

app = typer.Typer(
    name="embedfleet",
    cls=CommandGroup,
    help="Every retrieval signal for every chunk of a corpus, over all GPUs, with nothing lost.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

app.command()(run)
app.command()(plan)
app.command()(fit)
app.command()(search)
app.command("query-vectors")(query_vectors)
app.add_typer(models)


@app.command()
def verify(folder: RunFolder, as_json: AsJson = False) -> None:
    """Recount rows, ids, dimensions, norms and digests of a run; exit code 1 if something is wrong."""
    from ...protocol.process.arrow import leave_out_pandas
    from ..verify.recount import verify_run
    from .tables import print_report

    leave_out_pandas()
    report = verify_run(folder)
    if as_json:
        from dataclasses import asdict

        print_json({"ok": report.ok, **asdict(report)})
    else:
        print_report(report, problems_only=messages().settings.quiet)
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def info(folder: RunFolder, as_json: AsJson = False) -> None:
    """Show what a run directory holds."""
    from ...protocol.object_storage.address import with_addresses
    from ..arguments import run_folder
    from ..run_directory.shards_info import describe_shards, shard_lines

    folder = run_folder(folder)
    if (shards := describe_shards(folder)) is not None:
        if as_json:
            print_json(shards)
        else:
            first = f"{with_addresses(str(folder))}: {shards['status']}"
            sys.stdout.write("".join(f"{line}\n" for line in (first, *shard_lines(shards))))
        return
    from ..run_directory.info import describe_run, describe_state
    from .tables import print_info

    folder = run_folder(folder)
    described = describe_run(folder)
    described["root"] = with_addresses(described["root"])
    if as_json:
        print_json(described)
    else:
        print_info(described)
        if line := describe_state(folder):
            sys.stdout.write(f"{with_addresses(line)}\n")


@app.command()
def merge(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=local_path,
            autocompletion=run_directories,
            help="The folder that `embedfleet run --shard` was given as --out.",
        ),
    ],
    on_duplicate: Annotated[
        Literal["fail", "first"],
        typer.Option(
            metavar="WHAT",
            help="An id that stands in two shards: fail, or keep the first record of it, as one run would.",
        ),
    ] = "fail",
    as_json: AsJson = False,
) -> None:
    """Make one run of the shards of a directory, once all are done."""
    from ..steps.merge import execute

    raise typer.Exit(execute(folder, on_duplicate, as_json=as_json))


@app.command()
def export(
    folder: RunFolder,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="F,F",
            help="jsonl, npy, sparse-jsonl, multivector-jsonl, metadata, parquet, upload-script. Default: all that apply.",
        ),
    ] = None,
    quantization: Quantized = None,
    as_json: AsJson = False,
) -> None:
    """Write a finished run's vectors, points and metadata to files in DIR/export."""
    from ..options.spec_builder import split_names
    from ..steps.export import export as execute

    raise typer.Exit(execute(folder, split_names(formats, "--format"), quantization, as_json=as_json))


app.command()(upload)


@app.command()
def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            parser=local_path,
            autocompletion=run_directories,
            help="A run directory, or where the next run is to write; also an address. Default: the folder that you are in.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check libraries, GPUs, cores, memory, disks, hub and models; exit code 1 where something hinders a run."""
    from ..doctor.diagnosis import diagnose
    from ..doctor.page import print_diagnosis

    diagnosis = diagnose(folder)
    if as_json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)
    if not diagnosis.ok:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def serve(
    bind: Annotated[
        str,
        typer.Option(
            metavar="ADDR",
            envvar=COORDINATOR,
            help="ipc:///folder or tcp://127.0.0.1:PORT (and the two ports after it).",
        ),
    ],
    devices: Devices = None,
    no_devices: Annotated[
        bool, typer.Option("--no-devices", metavar="", help="Offer no devices of this host; agents will attach.")
    ] = False,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time after a signal to finish the batches in flight.")
    ] = 25.0,
    otlp: Otlp = None,
) -> None:
    """Run a coordinator that clients submit runs to; SIGTERM or Ctrl-C drains it."""
    from .daemons import serve as execute

    raise typer.Exit(execute(bind, devices, no_devices=no_devices, grace=grace, otlp=otlp))


@app.command()
def worker(
    connect: Annotated[str, typer.Option(metavar="ADDR", envvar=COORDINATOR, help="Where the coordinator listens.")],
    devices: Devices = None,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for a coordinator.")
    ] = 60.0,
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
        bool, typer.Option("--version", "-V", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: report every expected error as one message on standard error and an exit code.

    A reader of the output that has closed it (`| head -1`) does not change the exit code. If a full disk cuts the output
    short, the exit code is 1.
    """
    output = guard_standard_streams()
    code = exit_code_of(_run_command)
    sys.stdout.flush()
    lost = output.error
    if lost is not None and lost.errno != errno.EPIPE and code in (EXIT_DONE, EXIT_QUARANTINED):
        messages().fail(
            f"standard output cannot be written ({lost.strerror}): part of the output is missing; "
            "write it elsewhere and run the command again"
        )
        code = EXIT_FAILED
    messages().record(f"exit code {code}")
    sys.exit(code)


def _run_command() -> int:
    try:
        app(prog_name="embedfleet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_DONE
    return EXIT_DONE
