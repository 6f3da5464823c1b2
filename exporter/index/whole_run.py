"""The collection of a finished run, made from its files alone."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ...protocol.finished_run.done_run import open_done_run
from ...protocol.run_directory.records.passes import read_pass
from .edge_index import EdgeIndex


def publish_run(root: Path) -> None:
    """Put every segment of the run into the shard that is not in it yet. RunDirectoryError if the run is not done."""
    run = open_done_run(root)
    records = {name: read_pass(run.layout, name) for name in run.names}
    dims = {name: record.output_dim or 0 for name, record in records.items() if record is not None}
    with closing(EdgeIndex(run.layout, run.spec)) as index:
        for segment in run.segments:
            index.publish(segment, dims)
        index.complete(run.segments, dims)
