"""The messages from the command to the process on a node: one job for the run, and an order for each shard."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ....protocol.errors import RunDirectoryError
from ....protocol.object_storage.address import is_address, parse_address
from ....protocol.run_directory.records.shards import ShardsRecord
from ....protocol.spec.run_spec import RunSpec
from ....protocol.wire.run_options import RunOptions
from ...shards.agreement import shard_spec
from ...steps.remote_out import RemoteDirectory


class NodeJob(msgspec.Struct, frozen=True, kw_only=True):
    """What all shards of a run have in common. It holds no key: each node has its own."""

    record: ShardsRecord
    out: str
    """The folder that all nodes share, or an address in object storage."""
    options: RunOptions
    devices: str | None
    grace: float
    otlp: str | None
    spool: str | None = None
    keep_spool: bool = False

    def shard_spec(self, shard: int) -> RunSpec:
        """The spec of a shard."""
        return shard_spec(self.record, shard)

    def remote(self) -> RemoteDirectory | None:
        """The run directory in object storage; None if it is a folder."""
        if not is_address(self.out):
            return None
        address = parse_address(self.out, "--out", RunDirectoryError)
        return RemoteDirectory(address, Path(self.spool) if self.spool is not None else None, self.keep_spool)


class ShardOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A shard to embed: a line on the standard input of the process."""

    shard: int
    restart: bool = False
