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
def opened(request: RunRequest, part: str | None, session: Session) -> Generator[Path]:
    """Open a part of `--out` for this block (see `remote_out`), and yield its folder.

    `part` is empty for the whole, and None for the records of all shards: with it, no other command hands out the shards. If
    `--out` is a folder, or is open already, yield that folder. Raises Interrupted after a signal.
    """
    if request.remote is None and part is None:
        with handing_out(RunLayout(request.out), request.spec.source, request.spec.text_field):
            yield request.out
        return
    if request.on is None or request.remote is None:
        yield request.out
        return

    def check() -> None:
        if session.received:
            raise Interrupted

    remote = request.remote
    if part == "":
        session.say(f"fetching the shards of {remote.address}, to merge them")
        remote = remote.below("whole")  # that of the nodes may be on this host too
    with remote.opened(part, session.say, check) as folder:
        yield folder


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
