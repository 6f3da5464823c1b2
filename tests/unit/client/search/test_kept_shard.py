"""The shard between two queries: open where nobody else wants it."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.client.run_directory.edge_shard import open_shard
from embedfleet.client.search import kept_shard
from embedfleet.client.search.kept_shard import KeptShard
from embedfleet.protocol.errors import RunDirectoryError, UsageError

from ....waiting import eventually

pytest.importorskip("qdrant_edge")


@pytest.fixture
def files(run_files: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("embedfleet.client.run_directory.edge_shard.PATIENCE", 0.0)
    files = run_files.RunFiles(tmp_path / "run", sizes=(30,)).write()
    files.publish()
    return files


def is_free(files: Any) -> bool:
    """Whether another search may open the shard."""
    try:
        with open_shard(files.layout):
            return True
    except RunDirectoryError:
        return False


def test_without_keeping_it_is_open_for_one_query(files: Any) -> None:
    shard = KeptShard(files.layout, files.spec)
    with shard.ranker() as opened:
        assert opened.shard.info().points_count
        assert not is_free(files)
    assert is_free(files)


def test_a_kept_one_is_opened_once_until_it_is_closed(files: Any) -> None:
    shard = KeptShard(files.layout, files.spec, keep=True)
    with shard.ranker() as first:
        pass
    with shard.ranker() as second:
        assert second is first
    assert not is_free(files)
    shard.close()
    assert is_free(files)


def test_it_is_given_up_after_a_query_where_a_run_holds_the_directory(files: Any) -> None:
    shard = KeptShard(files.layout, files.spec, keep=True)
    files.layout.lock.write_text('{"pid": 1}')
    with shard.ranker():
        pass
    assert is_free(files)
    shard.close()


@pytest.mark.parametrize("why", ["a run", "idle"])
def test_it_is_given_up_between_two_queries(files: Any, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(kept_shard, "LOOK_SECONDS", 0.01)
    shard = KeptShard(files.layout, files.spec, keep=True)
    with shard.ranker():
        pass
    assert not is_free(files)
    if why == "a run":
        files.layout.lock.write_text('{"pid": 1}')
    else:
        monkeypatch.setattr(kept_shard, "IDLE_SECONDS", 0.0)
    eventually(lambda: is_free(files), what="the shard is free")
    with shard.ranker() as again:
        assert again.shard.info().points_count
    shard.close()


def test_after_an_error_of_the_engine_it_is_opened_anew(files: Any) -> None:
    shard = KeptShard(files.layout, files.spec, keep=True)
    for raised, stays in ((UsageError("no such key"), True), (ValueError("a panic"), False)):
        with pytest.raises(type(raised)), shard.ranker():
            raise raised
        assert is_free(files) != stays
    shard.close()
