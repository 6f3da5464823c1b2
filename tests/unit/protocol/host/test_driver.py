"""Calls into a driver: answered, refused, or never answered."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from embedfleet.protocol.host.gpu_driver import GpuDriver


def test_an_answer_and_an_error_come_back() -> None:
    driver = GpuDriver()
    assert driver.ask(lambda: 7, 0, 30) == 7
    with pytest.raises(ZeroDivisionError):
        driver.ask(lambda: 1 // 0, 0, 30)
    assert driver.post(lambda: 8).result(30) == 8
    driver.close()


def test_what_does_not_answer_is_not_waited_for_again_until_it_has() -> None:
    driver, answers = GpuDriver(), threading.Event()
    assert driver.ask(lambda: answers.wait(30), None, 0.05) is None
    asked: list[int] = []
    assert driver.ask(lambda: asked.append(1), 0, 30) == 0
    late = driver.post(lambda: 9)
    assert not late.done()
    answers.set()
    assert late.result(30) == 9
    assert not asked
    assert driver.ask(lambda: 8, 0, 30) == 8
    driver.close()


def test_what_was_posted_before_keeps_nobody_from_an_answer() -> None:
    """The end of one lease and the beginning of the next come close together."""
    driver, answers = GpuDriver(), threading.Event()
    driver.post(lambda: answers.wait(30))
    threading.Timer(0.05, answers.set).start()
    assert driver.ask(lambda: 7, 0, 30) == 7
    driver.close()


def test_a_process_ends_while_its_driver_hangs() -> None:
    code = """
import threading
from embedfleet.protocol.host.gpu_driver import GpuDriver
print(GpuDriver().ask(threading.Event().wait, "silent", 0.01))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "silent\n"
