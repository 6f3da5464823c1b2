"""The Hugging Face hub: whether models can be fetched."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from ...protocol.errors import EXIT_DONE
from ...protocol.host.hub_cache import offline_variable
from ...protocol.process.child import ChildProcess
from .finding import Finding

HUB = "https://huggingface.co"
ANSWER_SECONDS = 8.0
"""How long to wait for the hub, with the start of the process that asks it."""


@dataclass(frozen=True, slots=True)
class Hub:
    """`offline` is the variable that forbids to ask it, `refused` why it cannot be asked; both empty: it answers."""

    endpoint: str
    offline: str = ""
    refused: str = ""

    @property
    def answers(self) -> bool:
        """Whether a model can be fetched."""
        return not self.offline and not self.refused


class HubProbe:
    """Asks the hub in a process of its own, so that nobody waits longer than ANSWER_SECONDS. Call from the main thread."""

    def __init__(self) -> None:
        self._offline, self._endpoint = offline_variable(), os.environ.get("HF_ENDPOINT", HUB)
        self._until = time.monotonic() + ANSWER_SECONDS
        self._process = None if self._offline else ChildProcess("embedfleet.worker.hub.reach", [])

    def result(self) -> Hub:
        """The answer. Frees the process."""
        if self._process is None:
            return Hub(self._endpoint, offline=self._offline)
        code = self._process.wait(max(self._until - time.monotonic(), 0.0))
        printed = self._process.tail().rpartition("\n")[2]
        self._process.close()
        if code == EXIT_DONE:
            return Hub(self._endpoint)
        return Hub(
            self._endpoint, refused=f"no answer in {ANSWER_SECONDS:.0f} s" if code is None else printed or "no answer"
        )


def hub_findings(hub: Hub) -> list[Finding]:
    """Whether the hub answers. Without it, a run has the models that are on this host."""
    if hub.offline:
        text = f"offline by {hub.offline}: runs use the models that are on this host"
        return [Finding("ok", "hub", "hub-offline", text)]
    if hub.refused:
        text = f"{hub.endpoint} cannot be reached ({hub.refused}): runs use the models that are on this host"
        remedy = (
            "check the network, HTTPS_PROXY and HF_ENDPOINT; where there is none, set HF_HUB_OFFLINE=1 to save waiting"
        )
        return [Finding("note", "hub", "hub-unreachable", text, remedy)]
    return [Finding("ok", "hub", "hub", f"{hub.endpoint} answers")]
