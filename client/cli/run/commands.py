"""The commands that take the flags of a run. Each imports its modules only when it runs, so that --help is fast."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .flags import with_run_flags

if TYPE_CHECKING:
    from .request import RunRequest


def _run(request: RunRequest) -> int:
    if request.shards is not None or request.on is not None:
        from .shards_command import run_shards

        return run_shards(request)
    if request.shard is not None:
        from ...shards.one_shard import prepare_shard

        spec, out = prepare_shard(request.spec, request.out, request.shard, restart=request.restart)
        request = replace(request, spec=spec, out=out)
    from .run_command import run

    return run(request)


def _fit(request: RunRequest) -> int:
    from .fit_command import fit

    return fit(request)


run = with_run_flags("run", _run, "Embed a corpus into a run directory and publish a searchable collection.")
fit = with_run_flags(
    "fit", _fit, "Read a source once for the figures that its shards share: the first step of shards with BM25."
)
