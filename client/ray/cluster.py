"""The cluster of a run: joined, and checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import RunSpec
from .driver import RayDriver, ShardsRun
from .library import joined
from .node_watch import NodeWatch
from .nodes import Needs, Node, alive_nodes, check_nodes, needs_of, usable
from .probe import probe

SHARDS_A_NODE = 4
"""Shards for each node by default: enough that the last ones end almost together, few enough that models load seldom."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster whose nodes were checked for a run."""

    ray: Any
    needs: Needs
    nodes: tuple[Node, ...]

    @property
    def usual_shards(self) -> int:
        """The default number of shards."""
        return SHARDS_A_NODE * len(self.nodes)

    def run(self, shards: ShardsRun, received: Sequence[int], terminated: Callable[[], bool]) -> None:
        """Run the shards that are not done, see `RayDriver`."""
        RayDriver(self.ray, shards, NodeWatch(self.ray, self.needs, self.nodes), received, terminated).run()


@contextmanager
def checked_cluster(spec: RunSpec, out: str, devices: str | None, address: str | None) -> Generator[Cluster]:
    """The cluster of this host, or the one at `address`. `out` is a folder or an address in object storage.

    UsageError names each node that cannot take part, and the remedy.
    """
    with joined(address) as ray:
        nodes = alive_nodes(ray)
        needs = needs_of(spec, out, devices, nodes)
        nodes = usable(nodes, needs)
        if not nodes:
            raise UsageError("--on ray: no node of the cluster has a processor to lend; start nodes with `ray start`")
        looked = probe(ray, nodes, needs)
        if not looked:
            raise UsageError(
                "--on ray: every node left the cluster while it was looked at; type the same command again"
            )
        check_nodes(looked, needs)
        yield Cluster(ray, needs, tuple(node for node, _ in looked))
