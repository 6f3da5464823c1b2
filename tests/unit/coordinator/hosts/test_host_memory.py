"""The host's memory: the container's limit counts, a shortage is told, and not again before it could have helped."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.hosts import host_memory
from embedfleet.coordinator.hosts.host_memory import (
    LEAST_BYTES,
    LOOK_SECONDS,
    MOST_BYTES,
    RECOVERY_SECONDS,
    HostMemory,
    oom_kills,
)

GIB = 1 << 30


def test_a_shortage_is_told_and_then_given_time() -> None:
    left = [8 * GIB]
    memory = HostMemory(lambda: (left[0], 64 * GIB))
    assert memory.short(100.0) == ""
    left[0] = GIB
    assert memory.short(100.0 + LOOK_SECONDS / 2) == "", "it is not looked at all the time"
    assert "1024 of 65536 MiB are left" in memory.short(100.0 + LOOK_SECONDS)
    assert memory.short(100.0 + LOOK_SECONDS + RECOVERY_SECONDS - 0.1) == ""
    assert memory.short(100.0 + LOOK_SECONDS + RECOVERY_SECONDS) != ""


def test_a_small_host_keeps_a_least_number_of_bytes() -> None:
    assert HostMemory(lambda: (LEAST_BYTES - 1, GIB)).short(0.0) != ""
    assert HostMemory(lambda: (LEAST_BYTES, GIB)).short(0.0) == ""


def test_a_large_host_need_not_keep_more_than_a_few_gigabytes() -> None:
    assert HostMemory(lambda: (MOST_BYTES, 2048 * GIB)).short(0.0) == ""
    assert HostMemory(lambda: (MOST_BYTES - 1, 2048 * GIB)).short(0.0) != ""


def test_the_kernels_kills_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several that it killed at once is excused; a signal long after it is not."""
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom_kill 3\n")
    base = oom_kills(tmp_path)
    monkeypatch.setattr(host_memory, "oom_kills", lambda root: oom_kills(root) - base)
    memory = HostMemory(lambda: (8 * GIB, 64 * GIB), root=tmp_path)
    assert memory.short(100.0) == ""
    assert not memory.killed()
    events.write_text("low 0\noom_kill 4\n")
    assert memory.short(100.0 + LOOK_SECONDS) == "", "the look before its end was heard of"
    assert [memory.killed(), memory.killed()] == [True, True]
    for second in range(20):
        memory.short(101.0 + second)
    assert not memory.killed()
