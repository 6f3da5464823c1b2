"""Write the formats of a done run, each as a whole file, with `export/export.json` as their record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.index.collection import Quantization
from ...protocol.run_directory.atomic_files import make_folder
from ...protocol.spec.export_formats import choose_formats, file_names
from .collection import write_collection
from .export_record import ExportRecord, add_files, claim, drop_older
from .exported_file import ExportedFile
from .jsonl import write_jsonl
from .metadata import write_metadata
from .multivector_jsonl import write_multivector_jsonl
from .npy import write_npy
from .sparse_jsonl import write_sparse_jsonl
from .stats import write_stats
from .table import part_names, write_table
from .upload_script import write_upload_script

WRITERS: dict[str, Callable[[DoneRun, Path], Iterator[ExportedFile]]] = {
    "jsonl": write_jsonl,
    "npy": write_npy,
    "sparse-jsonl": write_sparse_jsonl,
    "multivector-jsonl": write_multivector_jsonl,
    "metadata": write_metadata,
    "parquet": write_table,
    "upload-script": write_upload_script,
}
"""The writer of each format of `export_formats.py`."""


def write_formats(
    run: DoneRun, formats: Sequence[str], quantization: Quantization, say: Callable[[ExportedFile], None]
) -> ExportRecord:
    """Write `formats` (none: all that apply) of a run whose directory is held; call `say` for each committed file.

    Deletes files that earlier exports made of other vectors. RunDirectoryError if a foreign file would be overwritten.
    """
    names = choose_formats(formats, run.spec, "--format")
    folder = run.layout.export
    make_folder(folder)
    claim(run, file_names(names, run.spec) | (part_names(run) if "parquet" in names else set()))
    state = run.digest()
    record = drop_older(run, state)
    always = (write_collection(run, folder, quantization), write_stats(run, folder))
    for one in chain(*always, *(WRITERS[name](run, folder) for name in names)):
        record = add_files(run, (one,), state)  # each as soon as it is committed
        say(one)
    return record
