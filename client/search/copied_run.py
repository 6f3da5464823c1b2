"""Make the collection of a run in object storage in its local copy or its spool, and keep it for the next search."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...protocol.process.child import STEADY_MEMORY, ChildProcess, exit_error
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.spec.run_spec import RunSpec
from ..run_directory.edge_shard import engine_installed, published_segments

POLL_SECONDS = 3600.0


def with_collection(layout: RunLayout, spec: RunSpec, say: Callable[[str], None]) -> RunSpec:
    """The spec of the copy with a collection that holds all its segments. EmbedfleetError if it cannot be made."""
    if spec.index == "none" and engine_installed():
        if published_segments(layout) != segments_in(layout.chunks):
            say(f"making the collection of {layout.root} for searches here")
        _publish(layout)
        return msgspec.structs.replace(spec, index="edge")
    return spec


def _publish(layout: RunLayout) -> None:
    child = ChildProcess(
        "embedfleet.exporter.commands.collection", [str(layout.root)], environment=STEADY_MEMORY, quiet=True
    )
    try:
        while (code := child.wait(POLL_SECONDS)) is None:
            pass
        stderr = child.tail()
    finally:
        child.close()
    if code:
        raise exit_error(code, stderr, f"{layout.root}: its collection cannot be made (exit code {code}); search again")
