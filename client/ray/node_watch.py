"""NodeWatch: the nodes of the cluster now. Those that join are checked before they get work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ...protocol.errors import RunDirectoryError
from ..output.messages import messages
from .nodes import Needs, Node, NodeFacts, alive_nodes, problem_of, usable
from .probe import probe

PAUSE_SECONDS = 30.0
"""Before new nodes are looked at again where --out could not be written to."""


class NodeWatch:
    """Watches the nodes of a cluster. Those in `checked` were checked before."""

    def __init__(self, ray: Any, needs: Needs, checked: Sequence[Node]) -> None:
        self._ray, self.needs = ray, needs
        self._names = {node.id: node.name for node in checked}
        self._good = {node.id for node in checked}
        self._bad: set[str] = set()
        self._background = ThreadPoolExecutor(1, "probe")
        self._probing: Future[list[tuple[Node, NodeFacts]]] | None = None
        self._not_before = 0.0

    def look(self) -> list[Node]:
        """The nodes that may get work. One with a problem is left out, with a message; the run goes on without it."""
        nodes = usable(alive_nodes(self._ray), self.needs)
        self._names |= {node.id: node.name for node in nodes}
        if self._probing is not None and self._probing.done():
            answers, self._probing = self._probing, None
            self._take(answers)
        new = [node for node in nodes if node.id not in self._good | self._bad]
        if new and self._probing is None and time.monotonic() >= self._not_before:
            self._probing = self._background.submit(probe, self._ray, new, self.needs)
        return [node for node in nodes if node.id in self._good]

    def is_bad(self, node: str) -> bool:
        """Whether the node is left out."""
        return node in self._bad

    def name(self, node: str) -> str:
        """The name of a node in messages."""
        return self._names.get(node, node[:8])

    def close(self) -> None:
        """Check no more nodes."""
        self._background.shutdown(wait=False, cancel_futures=True)

    def _take(self, answers: Future[list[tuple[Node, NodeFacts]]]) -> None:
        try:
            for node, facts in answers.result():
                self._judge(node, facts)
        except RunDirectoryError as error:  # of --out now, and not of these nodes
            messages().detail(f"new nodes cannot be checked now: {error}")
            self._not_before = time.monotonic() + PAUSE_SECONDS

    def _judge(self, node: Node, facts: NodeFacts) -> None:
        problem = problem_of(facts, self.needs)
        (self._bad if problem else self._good).add(node.id)
        if problem:
            messages().say(f"node {node.name} is left out: {problem}")
