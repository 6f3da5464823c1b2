"""Prepare the run of one shard."""

from __future__ import annotations

import shlex
from pathlib import Path

from ...protocol.errors import UsageError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import RunSpec
from ...protocol.spec.shard import Shard
from .agreement import agree, shard_spec
from .fit import find_fit, fitted, needs_fit


def prepare_shard(spec: RunSpec, out: Path, shard: Shard, *, restart: bool) -> tuple[RunSpec, Path]:
    """The spec of one shard and its run directory, agreed with the other shards. With `restart` the shard begins anew, and may
    have other flags while no other one has begun. UsageError if a fit must come first."""
    layout = RunLayout(out)
    if needs_fit(spec):
        found = find_fit(layout, spec)
        if found is None:
            command = f"embedfleet fit {shlex.quote(spec.source)} --out {shlex.quote(str(out))}"
            raise UsageError(
                "--shard: BM25's average length and the ranges of --store int8 are those of the whole source, and "
                f"{layout.fit} does not have them: run `{command}` first, with the same flags"
            )
        spec = fitted(spec, found)
    record = agree(layout, spec, shard.count, restarted=[shard.index] if restart else ())
    return shard_spec(record, shard.index), layout.shard(shard.index).root
