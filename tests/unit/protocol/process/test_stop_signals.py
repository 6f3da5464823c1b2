from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from embedfleet.protocol.process.stop_signals import STOP_SIGNALS, catch_stop_signals, restore_stop_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_is_caught_until_the_handlers_are_put_back(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    received: list[int] = []
    before = catch_stop_signals(lambda got, _frame: received.append(got))
    os.kill(os.getpid(), number)
    assert received == [number]
    restore_stop_signals(before)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = catch_stop_signals(lambda *_: pytest.fail("it is to be ignored"))
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    os.kill(os.getpid(), signal.SIGHUP)
    restore_stop_signals(before)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
