"""The nodes of a cluster, and what must hold of a node before it gets work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import CPU_KINDS, RunSpec
from ...protocol.version import __version__

MOST_NAMED = 5
"""Nodes with the same problem that a message names, at most."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive, by what it declares to Ray."""

    id: str
    name: str
    """For people: host name and address."""
    gpus: float
    cpus: float

    def share(self, *, gpus: bool) -> dict[str, float]:
        """The resources of the node that one actor takes: all GPUs, or all processors."""
        return {"GPU": self.gpus} if gpus else {"CPU": self.cpus}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a task found on a node."""

    python: str = ""
    embedfleet: str = ""
    """The version installed there; empty if there is none."""
    gpus: int = 0
    """GPUs that the driver shows."""
    source: str = ""
    """Why the source cannot be read there; empty if it can."""
    folder: str = ""
    """Why --out is not the same folder there; empty if it is."""
    store: str = ""
    """Why --out in object storage cannot be used there, and the remedy; empty if it can."""
    error: str = ""
    """Why the task failed; empty if it did not."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run needs of its nodes."""

    source: str
    out: str
    gpus: bool
    """Whether its shards get GPUs."""
    real: bool
    """Whether a model computes on its GPU; a fake one does not."""


def alive_nodes(ray: Any) -> list[Node]:
    """The nodes of the cluster."""
    found: list[Node] = []
    for one in ray.nodes():
        if one["Alive"]:
            address, host = one["NodeManagerAddress"], one["NodeManagerHostname"]
            resources: Mapping[str, float] = one["Resources"]
            name = address if host in ("", address) else f"{host} ({address})"
            found.append(Node(one["NodeID"], name, resources.get("GPU", 0.0), resources.get("CPU", 0.0)))
    return found


def needs_of(spec: RunSpec, out: str, devices: str | None, nodes: Iterable[Node]) -> Needs:
    """What the run needs. UsageError if it needs GPUs and no node has one."""
    heavy = [one for one in spec.passes if one.kind not in CPU_KINDS]
    real = any(not one.model.startswith("fake:") for one in heavy)
    only_cpus = devices is not None and all(part.strip().split(":", 1)[0] == "cpu" for part in devices.split(","))
    have = any(node.gpus for node in nodes)
    if heavy and not only_cpus and not have and (real or devices is not None):
        raise UsageError(
            f"--on ray: no node of the cluster has a GPU, and {heavy[0].vector} would take one; start nodes that have "
            "(`ray start --num-gpus`), or give --devices cpu to compute on their CPUs"
        )
    return Needs(spec.source, out, bool(heavy) and have and not only_cpus, real)


def usable(nodes: Iterable[Node], needs: Needs) -> list[Node]:
    """The nodes with the kind of device that a shard needs."""
    return [node for node in nodes if (node.gpus if needs.gpus else node.cpus) >= 1]


def problem_of(facts: NodeFacts, needs: Needs) -> str:
    """What is wrong with a node, and the remedy; empty if it may get work."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if facts.error:
        return f"no task runs there ({facts.error}); see `ray status` and its logs"
    if not facts.embedfleet:
        return f"embedfleet is not installed there: pip install 'embedfleet[ray]=={__version__}' in the Python that Ray uses"
    if facts.embedfleet != __version__:
        what = f"has embedfleet {facts.embedfleet}, and this is {__version__}"
        return f"{what}: pip install 'embedfleet[ray]=={__version__}' there"
    if facts.python != python:
        return f"has Python {facts.python}, and this is {python}: use one version of Python on all nodes"
    if needs.gpus and needs.real and not facts.gpus:
        return "declares GPUs to Ray, and the NVIDIA driver shows none: see `nvidia-smi` there"
    if facts.source:
        return f"cannot read the source {needs.source} ({facts.source}): mount it there at the same path"
    if facts.store:
        return facts.store
    if facts.folder:
        what = f"--out {needs.out} is not the same folder there ({facts.folder})"
        return f"{what}: give one on a file system that all nodes share"
    return ""


def check_nodes(found: Sequence[tuple[Node, NodeFacts]], needs: Needs) -> None:
    """Raise UsageError that names each node with a problem, and the remedy."""
    by_problem: dict[str, list[str]] = {}
    for node, facts in found:
        if problem := problem_of(facts, needs):
            by_problem.setdefault(problem, []).append(node.name)
    if by_problem:
        lines = [f"{_named(names)}: {problem}" for problem, names in by_problem.items()]
        raise UsageError("--on ray: " + "; ".join(lines))


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    shown = ", ".join(names[:MOST_NAMED])
    return f"node {shown}" if len(names) == 1 else f"nodes {shown}" + (f" and {more:,} more" if more > 0 else "")
