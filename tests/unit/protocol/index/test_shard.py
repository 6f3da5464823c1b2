"""Opening a shard: what the engine says when it does not, and how long a lock is waited for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.protocol.index.shard import ShardRefused, load_shard

qdrant_edge = pytest.importorskip("qdrant_edge")


class Panic(BaseException):
    """As PyO3's own, which is no Exception."""


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[str]:
    """The engine gives these answers, one a call and the last of them for ever; the paths that it was asked for."""
    asked, left = list[str](), list(answers)

    def load(path: str) -> Any:
        asked.append(path)
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(qdrant_edge, "EdgeShard", SimpleNamespace(load=load))
    return asked


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Failed to lock: WouldBlock"), "locked"),
        (RuntimeError("Read-only file system (os error 30)"), "read-only"),
        (RuntimeError("Permission denied (os error 13)"), "read-only"),
        (RuntimeError("failed to open WAL: No space left on device (os error 28)"), "host"),
        (MemoryError(), "host"),
        (RuntimeError("expected value at line 1 column 1"), "damaged"),
        (Panic("index out of bounds"), "damaged"),
    ],
)
def test_why_it_was_not_opened(monkeypatch: pytest.MonkeyPatch, error: BaseException, reason: str) -> None:
    answer_with(monkeypatch, error)
    with pytest.raises(ShardRefused) as refused:
        load_shard(Path("/run/qdrant"), 0.0)
    assert refused.value.reason == reason
    assert str(refused.value) == str(error)


def test_a_lock_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = RuntimeError("WouldBlock")
    asked = answer_with(monkeypatch, locked, locked, "the shard")
    assert load_shard(Path("/run/qdrant"), 60.0) == "the shard"
    assert asked == ["/run/qdrant"] * 3


def test_an_interrupt_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        load_shard(Path("/run/qdrant"), 60.0)
