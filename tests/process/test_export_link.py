"""A real exporter that stops or hangs: noticed by its silence, killed, and told of as lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.core import events as ev
from embedfleet.coordinator.links.exporter_link import ExporterLinks
from embedfleet.coordinator.runs.export_session import ExportSession
from embedfleet.coordinator.runs.exporter_process import ExporterProcess

STOPPED, SILENCE = 2.5, 600.0
"""Seconds, in place of the 20 and the 90."""


class Run:
    """A BatchRunner that has nothing but its exporter."""

    run = "r"

    def __init__(self, link: ExporterProcess) -> None:
        self.export = ExportSession("r", Path(), lambda: link, restart=False)
        self.export.prepare()
        self.report = SimpleNamespace(closed=None)


@pytest.fixture
def link(context: Any, folder: Path) -> Iterator[ExporterProcess]:
    made = ExporterProcess(context, f"ipc://{folder}/export")
    yield made
    made.end()
    made.wait()


@pytest.fixture
def gather(link: ExporterProcess) -> Callable[[], list[Any]]:
    """One look at the export link, as the coordinator's loop has it; all events so far."""
    emitted: list[Any] = []
    background = SimpleNamespace(leave=lambda wait: wait())
    context: Any = SimpleNamespace(runs={"r": Run(link)}, emit=emitted.append, background=background)
    reports = ExporterLinks(context)

    def look() -> list[Any]:
        reports.gather()
        return emitted

    return look


def test_a_stopped_exporter_is_killed_and_told_of(
    link: ExporterProcess, gather: Callable[[], list[Any]], waiting: Any
) -> None:
    waiting.eventually(lambda: link.socket.poll(0), what="a sign of life")
    link.stopped_seconds, link.silence_seconds = STOPPED, SILENCE
    assert gather() == []
    os.kill(link.process.pid, signal.SIGSTOP)
    (lost,) = waiting.eventually(gather, what="the exporter's end")
    assert isinstance(lost, ev.ExporterLost)
    assert lost.reason == "killed by signal 9"


def test_one_that_lives_is_silent_only_where_it_says_nothing_for_longer(
    link: ExporterProcess, gather: Callable[[], list[Any]], waiting: Any
) -> None:
    waiting.eventually(lambda: link.socket.poll(0), what="a sign of life")
    gather()
    link.stopped_seconds = 0.0
    assert not link.silent(), "it may be publishing, and is not stopped"
    link.silence_seconds = 0.0
    assert link.silent()


def test_what_waited_while_the_coordinator_was_held_up_counts(
    link: ExporterProcess, gather: Callable[[], list[Any]], waiting: Any
) -> None:
    link.silence_seconds = 0.5  # a sign of life a second: it will be long past when it is read
    waiting.eventually(lambda: link.silent() and link.socket.poll(0), what="a word that waits for long")
    assert gather() == []
    assert link.process.wait(0.2) is None
