"""Free memory, from files like those of /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from embedfleet.protocol.host.free_memory import available

GIB = 1 << 30


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB - 100}\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 50\n")
    assert available(tmp_path) == (150, GIB)


def test_an_older_container_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(2 * GIB))
    (folder / "memory.usage_in_bytes").write_text(str(3 * GIB))
    (folder / "memory.stat").write_text("total_inactive_file 10\n")
    assert available(tmp_path) == (0, 2 * GIB)


@pytest.mark.parametrize("limit", ["max", str(1 << 62)])
def test_without_a_limit_it_is_the_hosts(tmp_path: Path, limit: str) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("5")
    assert available(tmp_path)[1] == psutil.virtual_memory().total
