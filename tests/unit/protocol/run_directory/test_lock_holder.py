from __future__ import annotations

import os
from pathlib import Path

import pytest
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.lock_holder import read_holder


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing"])
def test_who_holds_a_lock_of_another_kind_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    layout = RunLayout(tmp_path)
    if kind == "pipe":
        os.mkfifo(layout.lock)
    elif kind == "folder":
        layout.lock.mkdir()
    assert read_holder(layout) is None
