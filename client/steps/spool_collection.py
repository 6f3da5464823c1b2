"""Make the collection of a run in object storage in its spool: the store has none."""

from __future__ import annotations

import time

from ...protocol.run_directory.layout import RunLayout
from .session import Session, memory_field
from .step_summary import Stage, process_cells


def make_collection(session: Session, layout: RunLayout) -> Stage:
    """Publish the segments that the collection in the spool lacks, and return the row for the summary.

    Raises Interrupted after a signal, or else the error that the process reports.
    """
    start = time.monotonic()
    session.say("making the collection in the spool")
    with session.stage("collection") as fields:
        peak = session.process("embedfleet.exporter.commands.collection", [str(layout.root)])
        fields |= memory_field(peak)
    return Stage("collection", {"seconds": f"{time.monotonic() - start:,.1f}"} | process_cells(peak))
