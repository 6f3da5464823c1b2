"""`embedfleet run … --on ray`: the shards on the nodes of a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ....protocol.run_directory.records.shards import ShardsRecord
from ...shards.agreement import shards_of
from ...steps.session import Session
from .request import RunRequest

if TYPE_CHECKING:
    from ...ray.cluster import Cluster


def chosen_cluster(request: RunRequest) -> AbstractContextManager[Cluster | None]:
    """The cluster that runs the shards, checked before anything is written; None if this host runs them."""
    if request.on is None:
        return nullcontext()
    from ...ray.cluster import checked_cluster  # late: it needs an extra

    return checked_cluster(request.spec, request.out, request.devices, request.ray_address)


def count_shards(request: RunRequest, cluster: Cluster | None) -> int:
    """The number of shards: that of `--shards`, else that of the directory, else the default of the cluster."""
    if request.shards is not None or cluster is None:
        return request.shards or 1
    return shards_of(request.out) or cluster.usual_shards


def run_on(cluster: Cluster, session: Session, record: ShardsRecord, request: RunRequest) -> None:
    """Have the cluster run the shards that are not done. Raises Interrupted after a signal, or the error that ends the run."""
    from ...ray.driver import ShardsRun
    from ...ray.shard_config import shard_config

    config = shard_config(
        request.spec,
        request.out,
        request.options,
        devices=request.devices,
        grace=request.grace,
        otlp=request.otlp,
    )
    shards = ShardsRun(record=record, out=request.out, config=config, restart=request.restart, grace=request.grace)
    cluster.run(shards, session.received, lambda: session.is_terminated)
