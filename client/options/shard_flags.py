"""Check `--shard`, `--shards` and `--on` against the other flags of a run."""

from __future__ import annotations

import msgspec

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import RunSpec, check_spec
from ...protocol.spec.shard import Shard, check_count, parse_shard


def choose_shards(
    shard: str | None, shards: int | None, spec: RunSpec, *, later: bool
) -> tuple[Shard | None, int | None]:
    """The one shard to run, or the number of shards to run here; neither without a flag.

    UsageError for shards that cannot be. `later`: steps are asked for that need the whole run.
    """
    if shard is None and shards is None:
        return None, None
    if shard is not None and shards is not None:
        raise UsageError("--shard and --shards: give one of them; --shards N runs all N of them here")
    if shards is not None:
        check_count(shards, f"--shards {shards}")
    one = parse_shard(shard) if shard is not None else Shard(0, shards or 1)
    check_spec(msgspec.structs.replace(spec, shard=one))
    if shard is not None and later:
        raise UsageError(
            "--queries and --export are for the whole source, and a shard is a part of it: leave them out, and give them to "
            "the same command with --shards once all shards are done"
        )
    return (one if shard is not None else None), shards


def check_engine(on: str | None, ray_address: str | None, shard: str | None, spec: RunSpec) -> None:
    """Raise UsageError for flags of an engine that do not go together."""
    if on is None:
        if ray_address is not None:
            raise UsageError(f"--ray-address {ray_address}: names a cluster for --on ray; give both")
        return
    if shard is not None:
        raise UsageError(f"--on {on}: places all shards, and --shard {shard} is one of them; give one of the flags")
    check_spec(msgspec.structs.replace(spec, shard=Shard(0, 1)))
