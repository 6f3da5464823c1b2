"""Copies to a device and back, with the CPU as the device, and with events that say when somebody waits for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ....optional_packages import Lazy, need

need("torch")
torch: Any = Lazy("torch")
backend: Any = Lazy("embedfleet.worker.backends.staging")


class Logged:
    """An event that notes what is done with it."""

    def __init__(self, log: list[str], number: int) -> None:
        self._log, self._number = log, number

    def record(self) -> None:
        self._log.append(f"record {self._number}")

    def synchronize(self) -> None:
        self._log.append(f"wait {self._number}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found, events = list[str](), list[Logged]()

    def event(_staging: object) -> Logged:
        events.append(Logged(found, len(events)))
        return events[-1]

    monkeypatch.setattr("embedfleet.worker.backends.staging.Staging._event", event)
    return found


def on_cpu(places: int) -> Any:
    return backend.Staging(torch.device("cpu"), places)


def numbers(*values: int) -> Any:
    return np.array(values, np.int32)


def test_arrays_are_copied_one_after_the_other() -> None:
    staging = on_cpu(2)
    assert staging.upload([numbers(1, 2), numbers(), numbers(3)]).tolist() == [1, 2, 3]
    assert staging.upload([numbers(*range(1_000))]).tolist() == list(range(1_000))
    assert staging.upload([numbers(7)]).dtype == torch.int32


def test_what_was_copied_stays_when_its_place_is_used_again() -> None:
    staging = on_cpu(2)
    copies = [staging.upload([numbers(number, number + 1)]) for number in range(7)]
    assert [one.tolist() for one in copies] == [[number, number + 1] for number in range(7)]


def test_a_place_is_written_only_after_the_copy_from_it(log: list[str]) -> None:
    """The copy may be on its way while the next places are written."""
    staging = on_cpu(3)
    for number in range(4):
        staging.upload([numbers(number)])
    assert log == ["wait 0", "record 0", "wait 1", "record 1", "wait 2", "record 2", "wait 0", "record 0"]


def test_a_download_waits_for_its_own_event_alone_and_only_when_it_is_asked_for(log: list[str]) -> None:
    staging = on_cpu(1)
    log.clear()
    first = staging.download({"a": torch.tensor([1.0]), "b": torch.tensor([[2], [3]])})
    second = staging.download({"a": torch.tensor([4.0])})
    assert log == ["record 1", "record 2"]
    found = first.wait()
    assert log[2:] == ["wait 1"]
    assert {name: one.tolist() for name, one in found.items()} == {"a": [1.0], "b": [[2], [3]]}
    assert second.wait()["a"].tolist() == [4.0]


def test_work_behind_an_event_and_memory_on_a_cpu() -> None:
    staging = on_cpu(1)
    with staging.behind(staging.mark()):
        assert staging.place_beside(1 << 60) == torch.device("cpu")
    staging.give_back()
