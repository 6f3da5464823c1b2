"""A Ray cluster of simulated nodes in a process of its own: `python -P ray_cluster.py`, and the test's side of it.

The process prints the address of the cluster, and an answer to each line on its standard input: `add` and a JSON object with
variables of the node, or `remove` and a place in the list of nodes, which kills that node. It ends the cluster when its
standard input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NODES, GPUS, CPUS = 3, 2, 1
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}
"""No processes but those that are used: each takes seconds of processor time."""
WATCHFUL = {"RAY_health_check_initial_delay_ms": "200", "RAY_health_check_period_ms": "200"}
"""A killed node counts as lost within a second or two. By default that takes Ray five looks, 3 s apart; a node that is only
slow has 10 s for each answer all the same."""


class RayCluster:
    """The test's side: a head without GPUs, and NODES that declare GPUS each, all with the variables. Close it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).absolute()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, **QUIET, **WATCHFUL, **variables},
        )
        self.address = self._answer()

    def add_node(self, **variables: str) -> None:
        """Have a node join, with these variables besides."""
        self._ask(f"add {json.dumps(variables)}")

    def remove_node(self, place: int = 0) -> None:
        """Kill a node, not the head, with all that runs there, and wait until the cluster knows; by its place among the nodes,
        the oldest first."""
        self._ask(f"remove {place}")

    def close(self) -> None:
        """End every process of the cluster."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _ask(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._answer() == what.strip()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Ray prints there
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": CPUS, "num_gpus": 0, "include_dashboard": False}
    )
    try:
        nodes = [cluster.add_node(num_cpus=CPUS, num_gpus=GPUS) for _ in range(NODES)]
        answers.write(f"{cluster.address}\n")
        for line in sys.stdin:
            what, _, rest = line.strip().partition(" ")
            if what == "add":
                nodes.append(cluster.add_node(num_cpus=CPUS, num_gpus=GPUS, env_vars=json.loads(rest) or None))
            else:
                cluster.remove_node(nodes.pop(int(rest)), allow_graceful=False)
                cluster.wait_for_nodes()  # else the next command may find it alive
            answers.write(f"{line.strip()}\n")
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    _serve()
