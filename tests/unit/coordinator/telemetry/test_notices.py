"""Lines for people: an event that comes over and over is told three times, then counted."""

from __future__ import annotations

from typing import Any

from embedfleet.coordinator.telemetry.notices import Notices

LOST = "worker lost on {device}: signal {number}; its batches go to others"


def lost(notices: Notices, now: float, number: int = 9, device: str = "cpu") -> list[str]:
    return notices.tell("worker_lost", {"worker": "w", "device": device, "reason": f"signal {number}"}, now)


def test_a_storm_is_told_three_times_and_then_counted() -> None:
    notices = Notices()
    told: list[Any] = [line for step in range(400) for line in lost(notices, 100 + step / 10) + notices.due(100.0)]
    assert told == [LOST.format(device="cpu", number=9)] * 3
    (line,) = notices.due(140.0)
    assert line == "397 more in 40 s, the last one: " + LOST.format(device="cpu", number=9)
    assert notices.due(200.0) == notices.due(200.0, end=True) == []


def test_the_count_comes_every_thirty_seconds_while_it_goes_on() -> None:
    notices = Notices()
    told = [line for step in range(600) for line in lost(notices, step / 5) + notices.due(step / 5)]
    assert len(told) == 3 + 3
    assert all("more in 30 s, the last one: worker lost on cpu" in line for line in told[3:])


def test_the_end_tells_what_was_only_counted() -> None:
    notices = Notices()
    for _ in range(5):
        lost(notices, 100.0)
    assert notices.due(101.0) == []
    assert notices.due(101.0, end=True) == ["2 more in 1 s, the last one: " + LOST.format(device="cpu", number=9)]


def test_after_a_silence_and_of_another_device_it_is_told_in_full() -> None:
    notices = Notices()
    for _ in range(5):
        lost(notices, 100.0)
    assert lost(notices, 101.0, device="gpu") == [LOST.format(device="gpu", number=9)]
    assert lost(notices, 200.0, number=11) == [
        "2 more in 100 s, the last one: " + LOST.format(device="cpu", number=9),
        LOST.format(device="cpu", number=11),
    ]


def test_what_is_none_of_peoples_is_not_told() -> None:
    assert Notices().tell("batch_failed", {"reason": "x"}, 0.0) == []
