"""What the worker's threads hand to its main loop."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.wire.arrays import Array
from ..protocol.wire.work import BatchFailedMessage, Broken, Mitigation, Ready, Result, Staged, Unfit
from .device.memory import Starved


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed batch. `message` lacks the headers of `arrays`, whose rows are in the order of the texts."""

    message: Result
    arrays: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Crashed:
    """An error in a thread that no batch is to blame for: the process must end."""

    error: BaseException


Outcome = Staged | Ready | Broken | Unfit | Computed | BatchFailedMessage | Starved | Mitigation | Crashed
