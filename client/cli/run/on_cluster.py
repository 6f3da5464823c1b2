"""`embedfleet run … --on ray`: the shards on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ....protocol.object_storage.probe import probe
from ....protocol.run_directory.layout import RunLayout
from ....protocol.run_directory.records.shards import ShardsRecord
from ...shards.agreement import shards_of
from ...shards.handing_out import handing_out
from ...steps.remote_out import HeldDirectory
from ...steps.session import Interrupted, Session
from .request import RunRequest

if TYPE_CHECKING:
    from ...ray.cluster import Cluster


def chosen_cluster(request: RunRequest) -> AbstractContextManager[Cluster | None]:
    """The cluster that runs the shards, checked before anything is written; None if this host runs them.

    RunDirectoryError if `--out` is in a store that refuses: this is looked at first, since it takes less time.
    """
    if request.on is None:
        return nullcontext()
    if request.remote is not None:
        probe(request.remote.address)
    from ...ray.cluster import checked_cluster  # late: it needs an extra

    return checked_cluster(request.spec, _shown(request), request.devices, request.ray_address)


@contextmanager
def records_opened(request: RunRequest, session: Session) -> Generator[Path]:
    """The folder with the records that all shards share; for an address, with these alone. No other command hands out shards
    during this block. Raises Interrupted after a signal."""
    if request.remote is None:
        with handing_out(RunLayout(request.out)):
            yield request.out
        return
    with request.remote.opened(None, session.say, lambda: stop_if_asked(session)) as folder:
        yield folder


@contextmanager
def whole_held(request: RunRequest, session: Session) -> Generator[HeldDirectory | None]:
    """The whole directory in object storage, held for this block and not yet fetched, after a cluster has run the shards; None
    for a folder. Raises Interrupted after a signal."""
    if request.remote is None:
        yield None
        return
    remote = request.remote.below("whole")  # the spools of the nodes may be on this host too
    with remote.held("", session.say, lambda: stop_if_asked(session)) as held:
        yield held


def stop_if_asked(session: Session) -> None:
    """Raise Interrupted after a signal."""
    if session.received:
        raise Interrupted


def count_shards(request: RunRequest, cluster: Cluster | None, folder: Path) -> int:
    """The number of shards: that of `--shards`, else that of the directory, else the default of the cluster."""
    if request.shards is not None or cluster is None:
        return request.shards or 1
    return shards_of(folder) or cluster.usual_shards


def run_on(cluster: Cluster, session: Session, record: ShardsRecord, request: RunRequest) -> None:
    """Have the cluster run the shards that are not done. Raises Interrupted after a signal, or the error that ends the run."""
    from ...ray.driver import ShardsRun
    from ...ray.finished_shards import FolderShards, StoredShards
    from ...ray.node.job import NodeJob

    remote = request.remote
    job = NodeJob(
        record=msgspec.structs.replace(record, files=()),  # no node needs them
        out=_shown(request),
        options=request.options,
        devices=request.devices,
        grace=request.grace,
        otlp=request.otlp,
        spool=str(remote.spool) if remote is not None and remote.spool is not None else None,
        keep_spool=remote is not None and remote.keep_spool,
    )
    shards = ShardsRun(
        job=job,
        finished=StoredShards(remote.address, record) if remote is not None else FolderShards(request.out, record),
        lost_last=remote is not None,
        restart=request.restart,
    )
    cluster.run(shards, session.received, lambda: session.is_terminated)


def _shown(request: RunRequest) -> str:
    """`--out` as every node can use it."""
    return str(request.remote.address if request.remote is not None else request.out)
