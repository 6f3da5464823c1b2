"""Look at nodes: versions, GPUs, the source, and whether they can write to the same --out. No device is taken for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from ...protocol.object_storage.address import is_address
from .marks import FolderMark, StoredMark
from .nodes import Needs, Node, NodeFacts

PROBE_SECONDS = 60.0
"""How long a node may take to answer: it starts a process first."""


def probe(ray: Any, nodes: Sequence[Node], needs: Needs) -> list[tuple[Node, NodeFacts]]:
    """The facts of each node, found by a small task there; without those that have left the cluster since it was asked.
    RunDirectoryError if this process cannot write to --out."""
    is_stored = is_address(needs.out)
    with StoredMark(needs.out) if is_stored else FolderMark(needs.out) as mark:
        remote = ray.remote(num_cpus=0, max_retries=0)(_make_task())
        strategy = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        source = "" if is_address(needs.source) else needs.source  # an address is read by each shard with its own keys
        words = source, mark.place, mark.token, is_stored
        asked = [
            (node, remote.options(scheduling_strategy=strategy(node.id, soft=False)).remote(*words)) for node in nodes
        ]
        end = time.monotonic() + PROBE_SECONDS
        found = [(node, _facts(ray, answer, mark, end)) for node, answer in asked]
        return [(node, facts) for node, facts in found if facts is not None]


def _facts(ray: Any, answer: Any, mark: FolderMark | StoredMark, end: float) -> NodeFacts | None:
    """What the task found; None if its node is gone."""
    try:
        found: dict[str, Any] = ray.get(answer, timeout=max(0.1, end - time.monotonic()))
    except ray.exceptions.TaskUnschedulableError:
        return None
    except ray.exceptions.GetTimeoutError:
        return NodeFacts(error=f"no answer within {PROBE_SECONDS:.0f} s")
    except (ray.exceptions.RayError, RuntimeError) as error:
        return NodeFacts(error=str(error).strip().split("\n", 1)[0][:200])
    theirs = found.pop("wrote")
    if isinstance(mark, FolderMark) and theirs and not found["folder"] and not mark.sees(theirs):
        found["folder"] = "a file that it wrote there is not seen here"
    return NodeFacts(**found)


def _make_task() -> Callable[[str, str, str, bool], dict[str, Any]]:
    """The task. Ray sends a nested function as code, so it also runs on nodes without embedfleet."""

    def look(source: str, mark: str, token: str, is_stored: bool) -> dict[str, Any]:
        import os
        import sys
        import time
        import uuid
        from importlib import import_module

        found: dict[str, Any] = {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "embedfleet": "",
            "gpus": 0,
            "source": "",
            "folder": "",
            "store": "",
            "wrote": "",
        }
        try:
            found["embedfleet"] = getattr(import_module("embedfleet"), "__version__", "of unknown version")
            found["gpus"] = len(list(import_module("embedfleet.protocol.host.gpus").find_gpus(None)))
            if is_stored:
                found["store"] = import_module("embedfleet.client.ray.marks").find_stored_problem(mark, token)
        except ImportError:  # it is missing, or so old that it has no such module
            pass
        try:
            if source and os.stat(source) and not os.access(source, os.R_OK):
                found["source"] = "permission denied"
        except OSError as error:
            found["source"] = str(error.strerror)
        if is_stored:
            return found
        try:
            end = time.monotonic() + 5.0
            while not os.path.exists(mark) and time.monotonic() < end:
                time.sleep(0.1)
            with open(mark) as file:
                if file.read() != token:
                    found["folder"] = "a file that was written here has another content there"
            own = f"{mark}-{uuid.uuid4().hex}"
            with open(own, "w") as file:
                file.write(token)
            found["wrote"] = os.path.basename(own)
        except OSError as error:
            found["folder"] = str(error.strerror)
        return found

    return look
