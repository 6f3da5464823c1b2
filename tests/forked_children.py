"""The processes that a command starts, as forks of what it was itself before it did anything: no Python, no imports.

Each is what `subprocess.Popen` would have made: a child of the process that asks for it, with its own session, streams,
environment, arguments and `__main__`.

A process that may start others keeps a twin, forked while it has no threads. Asked for a child, the twin forks a process
that forks the child and ends at once: the orphan comes to the one that asked, which adopts whatever is orphaned below it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from embedfleet.protocol.process import child as child_module

MESSAGE_BYTES = 1 << 20
STARTERS = ("embedfleet", "embedfleet.coordinator")
"""Modules whose processes start others."""
PR_SET_CHILD_SUBREAPER = 36
HIGHEST = 1 << 16
"""Above all descriptors."""
ARGUMENTS = 45
"""Of the fields of /proc/self/stat behind the name: where the arguments begin; the next one has where they end."""


@dataclass(frozen=True)
class Task:
    """What a fork is to become: a module run as `__main__`, and what its process has."""

    module: str
    args: list[str]
    environment: dict[str, str]
    folder: str
    descriptors: dict[int, int]
    """By the number that each gets, the number that it has."""


def take_over(task: Task) -> None:
    """Give this process, a fresh fork, what the task says; every other descriptor is closed."""
    clear = max([*task.descriptors, *task.descriptors.values()]) + 1
    held = {wanted: fcntl.fcntl(found, fcntl.F_DUPFD, clear) for wanted, found in task.descriptors.items()}
    for wanted, found in held.items():
        os.dup2(found, wanted)
    low = -1
    for wanted in [*sorted(held), HIGHEST]:
        if low + 1 < wanted:  # for none, some Pythons would close all
            os.closerange(low + 1, wanted)
        low = wanted
    os.environ.clear()
    os.environ.update(task.environment)
    os.chdir(task.folder)
    program = ["embedfleet"] if task.module == "embedfleet" else [sys.executable, "-P", "-m", task.module]
    show([*program, *task.args])


def keep_a_twin() -> Task | None:
    """None in this process, whose children are forks from now on; in each of these, what it is to become."""
    adopt_orphans()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if fork() == 0:
        ours.close()
        show(["twin"])
        return be_the_twin(theirs)
    theirs.close()
    child_module.subprocess = Forking(ours)  # type: ignore[assignment]
    return None


def adopt_orphans(*, yes: bool = True) -> None:
    """From now on, a process below this one that loses its parent comes to this one, or no more."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise OSError("this kernel does not let a process adopt orphans")


def show(arguments: Sequence[str]) -> None:
    """Have the system show these as this process's arguments, as far as there was room for them when it was started."""
    with open("/proc/self/stat", "rb") as line:
        fields = line.read().rpartition(b")")[2].split()
    start, end = int(fields[ARGUMENTS]), int(fields[ARGUMENTS + 1])
    shown = "\0".join(arguments).encode()[: end - start - 1]
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def fork() -> int:
    """os.fork() of a process whose other threads, of its libraries, do nothing yet: newer Pythons warn of any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def be_the_twin(link: socket.socket) -> Task:
    """Fork a process for each that is asked for; it comes to whoever adopts orphans. In it, what it is to become."""
    while True:
        try:
            asked, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 250)
        except ConnectionError:  # who asked was killed before it read the answer
            os._exit(0)
        if not asked:
            os._exit(0)
        between = fork()
        if between == 0:
            between = os.getpid()
            if fork() != 0:
                os._exit(0)
            while os.getppid() == between:
                time.sleep(0.0002)
            os.setsid()  # before anybody knows of it, who may want to kill the group
            try:
                link.send(str(os.getpid()).encode())
            except ConnectionError:  # who asked was killed
                os._exit(0)
            fields = json.loads(asked)
            return Task(**fields | {"descriptors": dict(zip(fields["descriptors"], descriptors, strict=True))})
        os.waitpid(between, 0)
        for one in descriptors:
            os.close(one)


class Forking(types.SimpleNamespace):
    """In place of the module `subprocess` where children are started."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    def __init__(self, link: socket.socket) -> None:
        super().__init__()
        self._link, self._lock = link, threading.Lock()

    def fork(self, task: Task) -> Forked:
        """A child that becomes this."""
        fields = {**asdict(task), "descriptors": list(task.descriptors)}
        with self._lock:
            socket.send_fds(self._link, [json.dumps(fields).encode()], list(task.descriptors.values()))
            return Forked(int(self._link.recv(MESSAGE_BYTES)))

    def Popen(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int | IO[Any] | None,
        stdout: IO[Any],
        stderr: IO[Any] | None,
        pass_fds: Sequence[int],
        start_new_session: bool,
    ) -> Forked:
        """The child that `subprocess.Popen` would start for `python -P -m MODULE ARGS`."""
        _, *how, module = command[:4]
        assert (how, start_new_session) == (["-P", "-m"], True)
        with open(os.devnull, "rb") as nothing:
            streams = [nothing if stdin == subprocess.DEVNULL else stdin, stdout, stderr]
            given = [
                at if one is None else one if isinstance(one, int) else one.fileno() for at, one in enumerate(streams)
            ]
            descriptors = {**dict(enumerate(given)), **{one: one for one in pass_fds}}
            return self.fork(Task(module, list(command[4:]), dict(env), os.getcwd(), descriptors))


class Forked:
    """A child, as `subprocess.Popen` has it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        """Of whoever makes a pipe for it."""
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status, once it has ended."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; TimeoutExpired if it still runs."""
        if self.returncode is None and not select.select([self._pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        code = self.poll()
        assert code is not None
        return code

    def __del__(self) -> None:
        os.close(self._pidfd)

    def send_signal(self, number: signal.Signals) -> None:
        """As long as it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it now."""
        self.send_signal(signal.SIGKILL)
