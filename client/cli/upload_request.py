"""UploadRequest: the flags of `embedfleet upload`."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.errors import UsageError
from ...protocol.finished_run.point_batches import BatchLimits
from ...protocol.index.collection import Quantization
from ...protocol.spec.shard import Shard
from ..upload.collection_options import CollectionOptions
from ..upload.points import NUMBER_BYTES
from ..upload.server import GRPC_PORT, connect, without_secret
from ..upload.sizes import MOST_REQUEST_MIB, LargePoints

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequest:
    """The flags of one command."""

    root: Path
    url: str
    collection: str | None
    api_key_env: str | None
    grpc: bool
    grpc_port: int
    streams: int
    batch_points: int
    max_request: int
    """MiB."""
    cut_payload: bool
    quantization: Quantization
    options: CollectionOptions
    payload_index: Sequence[str]
    replace: bool
    prune: bool
    green_seconds: float
    as_json: bool
    shard: Shard | None
    """The only one to upload; None for a whole run."""
    finish: bool
    """Upload nothing: finish what was uploaded in shards."""

    def check(self) -> None:
        """UsageError for flags that do not go together."""
        if self.shard is not None and self.finish:
            raise UsageError(
                "--shard and --finish: give one of them; upload each shard, then finish once with --finish"
            )
        if self.shard is not None and self.prune:
            raise UsageError("--prune: other shards may still be missing; give it to the command with --finish")
        if self.shard is not None and self.payload_index:
            raise UsageError(
                "--payload-index: the type of a field follows from the values in all shards; give it to the command with "
                "--finish, which makes the indexes before the graph"
            )
        if self.finish and self.replace:
            raise UsageError("--replace: --finish sends no points; give it to the commands with --shard")

    @property
    def limits(self) -> BatchLimits:
        """Of the batches."""
        return BatchLimits(self.batch_points, number_bytes=NUMBER_BYTES[self.grpc])

    def large_points(self) -> LargePoints:
        """What is done with points above the limit on a request; new for each use."""
        most = self.max_request << 20
        return LargePoints(most, NUMBER_BYTES[self.grpc], grpc=self.grpc, cut=self.cut_payload)

    @contextmanager
    def connected(self) -> Generator[QdrantClient]:
        """A client of the server."""
        with closing(connect(self.url, self.api_key_env, grpc=self.grpc, grpc_port=self.grpc_port)) as client:
            yield client

    def shard_command(self, shard: Shard) -> str:
        """The command that uploads a shard to this collection."""
        words = ["embedfleet", "upload", str(self.root), "--url", without_secret(self.url)]
        words += ["--collection", self.collection] if self.collection is not None else []
        words += ["--api-key-env", self.api_key_env] if self.api_key_env is not None else []
        words += [] if self.grpc else ["--no-grpc"]
        words += ["--grpc-port", str(self.grpc_port)] if self.grpc_port != GRPC_PORT else []
        words += ["--max-request", str(self.max_request)] if self.max_request != MOST_REQUEST_MIB else []
        words += ["--cut-payload"] if self.cut_payload else []
        return shlex.join([*words, "--shard", str(shard)])
