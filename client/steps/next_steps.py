"""What to type after a run."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ...protocol.object_storage.address import with_addresses
from ...protocol.spec.run_spec import RunSpec


def next_steps(spec: RunSpec, out: Path, *, exported: bool = False) -> list[str]:
    """Lines with the commands that are of use once the run in `out` is done; `exported`: it has exports already."""
    if spec.shard is not None:
        return [
            f"next: embedfleet merge {shown_path(out.parent.parent)}, once all {spec.shard.count:,} shards are done"
        ]
    folder = shown_path(out)
    look = f"embedfleet info {folder}"
    first = f'embedfleet search {folder} "your words"' if spec.index == "edge" else f"embedfleet verify {folder}"
    return [f"next: {first}", f"more: {look}" if exported else f"more: {look} · embedfleet export {folder}"]


def shown_path(path: Path) -> str:
    """The path as one may type it: from the current folder if it is below, and quoted if the shell needs that."""
    try:
        near = os.path.relpath(path)
    except OSError:  # the current folder is gone
        near = os.pardir
    named = with_addresses(str(path))
    if named != str(path):
        return shlex.quote(named)
    return shlex.quote(str(path) if near.split(os.sep)[0] == os.pardir else near)
