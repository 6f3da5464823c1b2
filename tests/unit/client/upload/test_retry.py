from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from embedfleet.client.upload import retry
from embedfleet.client.upload.retry import with_retries

pytest.importorskip("tenacity")


class Busy(Exception):
    def __init__(self, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = retry_after_s


class Server:
    """Fails as it is told to, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


@pytest.fixture
def pauses(monkeypatch):
    """What was waited for, in seconds; nothing is."""
    found: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds: found.append(seconds) or self.is_set())
    return found


def is_busy(error: BaseException) -> bool:
    return isinstance(error, Busy)


def test_pauses_are_jittered_under_a_limit_that_doubles(pauses):
    found = set()
    for _ in range(20):
        pauses.clear()
        assert with_retries(Server(Busy(), Busy(), Busy()), is_busy, threading.Event()) == "done"
        assert len(pauses) == 3
        assert all(0 <= one <= limit for one, limit in zip(pauses, (1, 2, 4), strict=True))
        found.update(pauses)
    assert len(found) > 50, "no two streams come back at once"


def test_what_the_server_asks_for_is_waited(pauses):
    with_retries(Server(Busy(45.0)), is_busy, threading.Event())
    assert pauses == [45.0]


@pytest.mark.usefixtures("pauses")
def test_the_last_error_is_raised_as_it_is():
    busy = Server(*(Busy(number) for number in range(1, 20)))
    with pytest.raises(Busy) as caught:
        with_retries(busy, is_busy, threading.Event())
    assert (busy.asked, caught.value.retry_after_s) == (retry.ATTEMPTS, retry.ATTEMPTS)
    refusing = Server(KeyError("no"))
    with pytest.raises(KeyError):
        with_retries(refusing, is_busy, threading.Event())
    assert refusing.asked == 1


def test_no_attempt_comes_after_the_stop():
    stop, server = threading.Event(), Server(Busy(60.0), Busy(60.0))
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(Busy):
        with_retries(server, is_busy, stop)
    timer.join()
    assert (server.asked, time.monotonic() - begun < 30) == (1, True)
    assert with_retries(Server(), is_busy, stop) == "done", "the first attempt is made all the same"


def test_the_library_is_imported_late():
    code = "import sys, embedfleet.client.upload.retry, embedfleet.client.cli.app; sys.exit('tenacity' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
