"""The share of a worker's session, in the file of its autogroup."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.worker.device.fair_share import weigh_threads


@pytest.mark.parametrize(("threads", "nice"), [(2, "-3"), (4, "-6"), (16, "-12"), (200, "-20")])
def test_threads_weigh_as_much_as_processes(tmp_path: Path, threads: int, nice: str) -> None:
    """1.25 to the power of the nice value is close to the number of threads."""
    file = tmp_path / "autogroup"
    file.touch()
    assert weigh_threads(threads, file)
    assert file.read_text() == nice


def test_one_thread_is_what_a_session_weighs_anyway(tmp_path: Path) -> None:
    file = tmp_path / "autogroup"
    file.touch()
    assert weigh_threads(1, file)
    assert file.read_text() == ""


def test_without_the_right_nothing_changes(tmp_path: Path) -> None:
    assert not weigh_threads(4, tmp_path)
