"""Look at nodes: versions, GPUs, the source, and whether --out is the same folder there. No device is taken for it."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ...protocol.errors import RunDirectoryError
from ...protocol.object_storage.address import is_address
from .nodes import Needs, Node, NodeFacts

PROBE_SECONDS = 60.0
"""How long a node may take to answer: it starts a process first."""
SHARED_SECONDS = 10.0
"""How long a file may take to appear on another node: clients of NFS cache a folder for some seconds."""
PREFIX = ".embedfleet-probe-"


def probe(ray: Any, nodes: Sequence[Node], needs: Needs) -> list[tuple[Node, NodeFacts]]:
    """The facts of each node, found by a small task there; without those that have left the cluster since it was asked.
    RunDirectoryError if this process cannot write to --out."""
    out, token = Path(needs.out), uuid.uuid4().hex
    missing = [one for one in (out, *out.parents) if not one.exists()]
    mark = out / f"{PREFIX}{token}"
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            mark.write_text(token)
        except OSError as error:
            raise RunDirectoryError(
                f"--out {out}: {error.strerror or error}; give a folder that this process can write to"
            ) from None
        remote = ray.remote(num_cpus=0, max_retries=0)(_make_task())
        strategy = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        source = "" if is_address(needs.source) else needs.source  # an address is read by each shard with its own keys
        asked = [
            (node, remote.options(scheduling_strategy=strategy(node.id, soft=False)).remote(source, str(mark), token))
            for node in nodes
        ]
        end = time.monotonic() + PROBE_SECONDS
        found = [(node, _facts(ray, answer, mark, end)) for node, answer in asked]
        return [(node, facts) for node, facts in found if facts is not None]
    finally:
        with contextlib.suppress(OSError):
            for path in out.glob(f"{mark.name}*"):
                path.unlink(missing_ok=True)
            for folder in missing:  # made here; the first in the list is the lowest
                folder.rmdir()


def _facts(ray: Any, answer: Any, mark: Path, end: float) -> NodeFacts | None:
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
    seen_by = time.monotonic() + SHARED_SECONDS
    if theirs and not found["folder"] and not look_until(mark.with_name(theirs).exists, [mark.parent], seen_by):
        found["folder"] = "a file that it wrote there is not seen here"
    return NodeFacts(**found)


def look_until(seen: Callable[[], bool], folders: Iterable[Path], end: float) -> bool:
    """Whether what another node wrote into these folders is seen here before `end`, by the steady clock."""
    while not seen():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
        for folder in folders:
            with contextlib.suppress(OSError):
                os.listdir(folder)  # makes a client of NFS look again
    return True


def _make_task() -> Callable[[str, str, str], dict[str, Any]]:
    """The task. Ray sends a nested function as code, so it also runs on nodes without embedfleet."""

    def look(source: str, mark: str, token: str) -> dict[str, Any]:
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
            "wrote": "",
        }
        try:
            found["embedfleet"] = getattr(import_module("embedfleet"), "__version__", "of unknown version")
            found["gpus"] = len(list(import_module("embedfleet.protocol.host.gpus").find_gpus(None)))
        except ImportError:  # it is missing, or so old that it has no such module
            pass
        try:
            if source and os.stat(source) and not os.access(source, os.R_OK):
                found["source"] = "permission denied"
        except OSError as error:
            found["source"] = str(error.strerror)
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
