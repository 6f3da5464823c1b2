"""A device's health: counts of how its workers ended, and whether it is given up. The verdicts are in `verdicts.py`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .config import PoolConfig
from .verdicts import Incident, Verdict, judge

ALL_ENDED = "every worker ended at the first batch that it was given"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A device that has just been given up, for the event log."""

    reason: str
    failures: int


@dataclass(slots=True)
class DeviceHealth:
    """Counts of one device in the current run. `record` counts failures; `computed`, `loaded`, `explained` count successes."""

    failures: int = 0
    """Failures in a row, without a result in between."""
    losses: int = 0
    """Workers lost in a row without a result in between, whatever the cause."""
    unexplained_losses: float = 0.0
    """Workers lost without a guilty row, less `forgiveness` for each result: rare losses add up too."""
    failed_loads: dict[int, int] = field(default_factory=dict[int, int])
    """By pass: workers in a row that ended before they were ready. Workers of other passes do not change it."""
    refused: dict[int, str] = field(default_factory=dict[int, str])
    """Passes that the device is given up for, with the reason; it may work for other passes."""
    bad: str = ""
    """Why the device is given up; empty: it is not."""
    bad_for: int | None = None
    """The pass whose workers kept ending there until it was given up; None if the device itself is at fault."""
    not_before: float = 0.0
    """When the next worker may start."""

    def given_up(self, pass_index: int) -> str:
        """Why the device no longer works for a pass; empty: it does."""
        return self.bad or self.refused.get(pass_index, "")

    def may_start(self, now: float) -> bool:
        """Whether another worker may start."""
        return not self.bad and now >= self.not_before

    def computed(self, config: PoolConfig) -> None:
        """Count a result of a worker."""
        self.failures = self.losses = 0
        self.unexplained_losses = max(0.0, self.unexplained_losses - config.forgiveness)

    def loaded(self, pass_index: int) -> None:
        """Count a worker whose model is ready."""
        self.failed_loads.pop(pass_index, None)

    def explained(self) -> None:
        """Take one loss back: a row was found guilty of it."""
        self.unexplained_losses = max(0.0, self.unexplained_losses - 1.0)

    def record(self, incident: Incident, config: PoolConfig, now: float) -> list[GivenUp]:
        """Count a worker's end. Return an entry if the device is given up because of it."""
        if not (incident.fault or incident.unending or incident.in_order or incident.run_over):
            self.losses += 1
        too_many = self.losses >= config.device_losses
        match judge("device", replace(incident, too_many=too_many)):
            case Verdict.GIVE_UP:
                return [self._give_up(incident.fault or incident.reason)]
            case Verdict.GIVE_UP_FOR_PASS:
                lost = f"{self.losses} workers in a row ended without a result" if too_many else ALL_ENDED
                return [self._give_up(f"{lost}, the last one: {incident.reason}", incident.pass_index)]
            case Verdict.PAUSE:
                self._pause(self.losses, config, now)
                return []
            case Verdict.FAILURE:
                return self._failure(incident, config, now)
            case Verdict.FAILED_LOAD:
                return self._failed_load(incident, config, now)
            case Verdict.FAILED_LOAD_AND_FAILURE:
                return self._failed_load(incident, config, now) + self._failure(incident, config, now)
            case Verdict.UNEXPLAINED_LOSS:
                return self._failure(incident, config, now) + self._unexplained_loss(incident, config)
            case _:
                return []

    def _failure(self, incident: Incident, config: PoolConfig, now: float) -> list[GivenUp]:
        self.failures += 1
        self._pause(self.failures, config, now)
        if self.failures < config.device_failures:
            return []
        return [self._give_up(incident.reason, incident.pass_index)]

    def _failed_load(self, incident: Incident, config: PoolConfig, now: float) -> list[GivenUp]:
        """Count by pass: a model that fails to load says nothing about other models, nor does their success about it."""
        loads = self.failed_loads[incident.pass_index] = self.failed_loads.get(incident.pass_index, 0) + 1
        self._pause(loads, config, now)
        if loads < config.device_failures or self.given_up(incident.pass_index):
            return []
        self.refused[incident.pass_index] = incident.reason
        return [GivenUp(incident.reason, loads)]

    def _unexplained_loss(self, incident: Incident, config: PoolConfig) -> list[GivenUp]:
        self.unexplained_losses += 1
        if self.unexplained_losses < config.unexplained_losses or self.bad:
            return []
        return [self._give_up(f"its workers end again and again, the last one: {incident.reason}", incident.pass_index)]

    def _give_up(self, reason: str, pass_index: int | None = None) -> GivenUp:
        self.bad, self.bad_for = reason, pass_index
        return GivenUp(reason, max(self.failures, self.losses))

    def _pause(self, times: int, config: PoolConfig, now: float) -> None:
        self.not_before = now + min(config.backoff * 2 ** (times - 1), config.max_backoff)
