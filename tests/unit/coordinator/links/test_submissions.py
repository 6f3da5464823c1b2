"""Submissions are looked at beside the loop: it goes on, a folder is promised once, and a stop refuses those that wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from embedfleet.coordinator.core.events import RunSubmitted
from embedfleet.coordinator.links import submissions
from embedfleet.coordinator.links.submissions import Submissions
from embedfleet.coordinator.runs.sparse_placement import SparsePlacement
from embedfleet.coordinator.runs.submission import Findings
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.control import Accepted, Refused, Submit
from embedfleet.protocol.wire.run_options import DEFAULTS

SPEC = RunSpec(source="/s.jsonl", passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),), index="none")
FOUND = Findings(SparsePlacement(DEFAULTS), ())


class Clients:
    """Submissions whose background answers when the test says so, and what their clients hear."""

    def __init__(self, *, shared: bool = False) -> None:
        self.waiting: dict[str, Callable[[Future[Findings]], None]] = {}
        self.ended: list[str] = []
        self.said: list[str] = []
        self.emitted: list[Any] = []
        self.heard: list[Any] = []
        self.checks: Any = SimpleNamespace(start=self._start)
        self.refusing: OSError | None = None
        self.noted: list[Any] = []
        background = SimpleNamespace(begin=lambda _run: None, end=self.ended.append, post=self._post)
        self.context: Any = SimpleNamespace(
            background=background,
            runs={},
            ending={},
            hosts=SimpleNamespace(local=None),
            devices=list,
            emit=self.emitted.append,
            say=self.said.append,
            note=lambda *noted: self.noted.append(noted),
        )
        no_exporter: Any = None
        self.submissions = Submissions(self.context, self.checks, no_exporter, None, shared=shared)

    def _post(self, run: str, _call: Any, then: Callable[[Future[Findings]], None]) -> None:
        self.waiting[run] = then

    def _start(self, *_: Any) -> None:
        if self.refusing is not None:
            raise self.refusing

    def submit(self, out: Path, number: int = 1) -> str:
        """A submission that is being looked at; the name of its run."""
        self.submissions.take(Submit(request=number, spec=SPEC, out=str(out)), self.heard.append)
        return list(self.waiting)[-1]

    def answer(self, run: str, found: Findings | Exception = FOUND) -> None:
        future: Future[Findings] = Future()
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)
        self.waiting[run](future)


def test_the_client_hears_once_it_was_looked_at(tmp_path: Path) -> None:
    clients = Clients()
    run = clients.submit(tmp_path, 7)
    assert (clients.heard, clients.emitted, clients.context.runs) == ([], [], {})
    clients.answer(run)
    assert clients.heard == [Accepted(7, run)]
    (submitted,) = clients.emitted
    assert isinstance(submitted, RunSubmitted)
    assert (submitted.run, submitted.unchecked) == (run, False)
    assert list(clients.context.runs) == [run]
    assert clients.said == [f"run {run}: /s.jsonl into {tmp_path}"]


@pytest.mark.parametrize(
    ("error", "kind"), [(UsageError("no GPU"), "UsageError"), (OSError("no GPU"), "UsageError")], ids=["ours", "system"]
)
def test_what_is_found_may_refuse_it(tmp_path: Path, error: Exception, kind: str) -> None:
    clients = Clients()
    run = clients.submit(tmp_path, 7)
    clients.answer(run, error)
    assert clients.heard == [Refused(7, kind, "no GPU")]
    assert (clients.emitted, clients.context.runs, clients.ended) == ([], {}, [run])
    clients.submit(tmp_path)  # the folder is free again


def test_one_that_cannot_become_a_run_is_refused_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError(24, "Too many open files")

    clients = Clients()
    monkeypatch.setattr(submissions, "BatchRunner", refuse)
    clients.answer(clients.submit(tmp_path))
    assert [type(one) for one in clients.heard] == [Refused]
    assert "Too many open files" in clients.heard[0].message
    assert (clients.context.runs, len(clients.ended)) == ({}, 1)
    monkeypatch.undo()
    clients.answer(clients.submit(tmp_path, 2))  # its folder is free again
    assert type(clients.heard[-1]) is Accepted


def test_only_a_private_coordinator_reads_standard_input(tmp_path: Path) -> None:
    request = Submit(request=1, spec=msgspec.structs.replace(SPEC, source="-"), out=str(tmp_path))
    with pytest.raises(UsageError, match="source -: `embedfleet serve` cannot read your standard input"):
        Clients(shared=True).submissions.take(request, list[Any]().append)
    private = Clients()
    private.submissions.take(request, private.heard.append)
    assert len(private.waiting) == 1


def test_a_folder_is_promised_to_one_run_until_that_has_ended(tmp_path: Path) -> None:
    clients = Clients()
    run = clients.submit(tmp_path)
    busy = f"run {run} is writing there"
    with pytest.raises(UsageError, match=busy):
        clients.submit(tmp_path)
    clients.answer(run)
    with pytest.raises(UsageError, match=busy):
        clients.submit(tmp_path)
    clients.context.ending[run] = clients.context.runs.pop(run)
    with pytest.raises(UsageError, match=busy):
        clients.submit(tmp_path)
    del clients.context.ending[run]
    assert clients.submit(tmp_path) != run


def test_a_stop_refuses_those_that_are_being_looked_at_and_whatever_comes(tmp_path: Path) -> None:
    clients = Clients()
    run = clients.submit(tmp_path, 7)
    clients.submissions.stop()
    assert clients.heard == [Refused(7, "UsageError", "the coordinator is shutting down")]
    assert clients.ended == [run], "what is found out about it is dropped"
    with pytest.raises(UsageError, match="shutting down"):
        clients.submit(tmp_path)


@pytest.mark.parametrize("refusing", [None, OSError("no process")])
def test_models_are_looked_at_by_a_process_if_there_can_be_one(tmp_path: Path, refusing: OSError | None) -> None:
    clients = Clients()
    clients.refusing = refusing
    run = clients.submit(tmp_path)
    clients.answer(run, Findings(SparsePlacement(DEFAULTS), SPEC.passes))
    assert clients.emitted[0].unchecked is (refusing is None)
    assert clients.noted == ([(run, "models_unchecked", {"reason": "no process"})] if refusing else [])
