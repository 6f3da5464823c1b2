"""Signals to a command: a process that catches them as `embedfleet run` does, with the test as whoever signals it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

CATCHING = """
import signal, sys
from embedfleet.protocol.process import stop_signals
stop_signals.ONE_SIGNAL_SECONDS = float(sys.argv[1])
with stop_signals.catching_signals() as received:
    print("up", flush=True)
    while (line := sys.stdin.readline()) != "end\\n":
        print(*map(int, received), flush=True)
"""
LONG, NOTHING = "3600", "0"


def received(seconds: str, sent: Sequence[signal.Signals]) -> list[int]:
    """The signals that count. Each is sent once the process has handled the one before."""
    command = [sys.executable, "-c", CATCHING, seconds]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        shown = ""
        for one in sent:
            process.send_signal(one)
            process.stdin.write("\n")
            process.stdin.flush()
            shown = process.stdout.readline()
        process.stdin.write("end\n")
        process.stdin.close()
        assert process.wait(60) == 0
        return [int(one) for one in shown.split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_arrives_twice_within_a_second_counts_once(number: signal.Signals) -> None:
    """A scheduler signals all processes of a job, and a parent forwards its own signal."""
    assert received(LONG, [number] * 3) == [number]
    assert received(NOTHING, [number] * 2) == [number] * 2


def test_each_kind_counts_by_itself() -> None:
    assert received(LONG, [signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]) == [signal.SIGTERM, signal.SIGHUP]


def test_a_person_who_presses_twice_is_heard_twice() -> None:
    assert received(LONG, [signal.SIGINT] * 2) == [signal.SIGINT] * 2
