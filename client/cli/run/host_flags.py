"""Flags of a run: where it is written, and how devices compute it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ....protocol.spec.run_spec import Backend, Dtype
from ....protocol.wire.run_options import Placement
from ...completion.run_directories import run_directories
from ..flag_types import local_path

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=local_path,
        autocompletion=run_directories,
        help="The run directory, also s3://, gs://, az://. The same command resumes. Default: c.embedfleet beside c.jsonl.",
    ),
]
Spool = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        parser=local_path,
        help="With --out s3://: the local folder to work in. Default: in your cache.",
    ),
]
KeepSpool = Annotated[bool, typer.Option("--keep-spool", metavar="", help="Keep that folder when the run is done.")]
Restart = Annotated[
    bool, typer.Option("--restart", metavar="", help="Delete what an earlier run wrote there; start over.")
]
ComputeType = Annotated[
    Dtype,
    typer.Option(
        metavar="TYPE",
        help="float32, bfloat16, float16, or auto: float32 on a CPU, bfloat16 or float16 on GPUs.",
    ),
]
ModelBackend = Annotated[
    Backend,
    typer.Option(
        metavar="NAME",
        help="torch: texts padded to one length; torch-packed: without padding; openvino, and onnx (the graph that a model "
        "brings): CPUs only; auto: see models.",
    ),
]
SparseDevice = Annotated[
    Placement,
    typer.Option(help="Learned sparse models: cpu (beside the GPU passes), gpu, or auto (by the source's size)."),
]
CpuFallback = Annotated[
    bool,
    typer.Option("--cpu-fallback", metavar="", help="If every GPU is given up, go on with a CPU slot, slowly."),
]
BatchTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Kill a worker without progress for so long. Default: by the measured speed."),
]
LoadTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Time to load a model. Default: 3600, then 300 to move it to the device."),
]
Grace = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="Time to finish batches in flight after SIGTERM or SIGHUP.")
]
