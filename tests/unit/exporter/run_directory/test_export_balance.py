"""A run is done only where its files add up: what is removed, replaced or added meanwhile is missed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter import export_runtime
from embedfleet.exporter.run_directory import balance
from embedfleet.exporter.run_directory.balance import find_difference
from embedfleet.exporter.run_directory.file_stamps import FileStamps
from embedfleet.exporter.run_directory.manifest import Counts, recount
from embedfleet.protocol.errors import RunDirectoryError

from ....export_bench import DENSE, OTHER, ROWS, Bench


def test_a_segment_that_is_removed_meanwhile_is_missed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    session = bench.begin()
    for segment in (0, 1):
        session.rows(segment)
    session.source_read(2)
    session.wait()
    path = bench.layout.vector_segment("dense-a", 1)
    path.unlink()
    closed = session.close()
    assert f"{path} is gone; run the same command again, which computes it" in closed.problem
    assert not bench.layout.manifest.exists()
    assert bench.finish().problem == ""
    assert verify_run(bench.root).ok


@pytest.mark.parametrize("other", [None, b"{}"])
def test_a_spec_that_is_removed_or_replaced_meanwhile_is_written_again(
    make_bench: Callable[..., Bench], other: bytes | None
) -> None:
    """The run ended as done in a directory that nothing could read."""
    bench = make_bench()
    session = bench.begin()
    spec = bench.layout.spec.read_bytes()
    for segment in (0, 1):
        session.rows(segment)
    session.source_read(2)
    session.wait()
    bench.layout.spec.unlink()
    if other is not None:
        bench.layout.spec.write_bytes(other)
    assert session.close().problem == ""
    assert bench.layout.spec.read_bytes() == spec
    assert (bench.root / "spec.json.damaged").exists() == (other is not None)
    assert verify_run(bench.root).ok


def test_each_footer_is_read_once(make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench(DENSE, OTHER)
    bench.finish()
    footers: list[Path] = []
    read = balance.read_info
    monkeypatch.setattr(balance, "read_info", lambda path, kind: footers.append(path) or read(path, kind))
    assert balance.find_imbalance(bench.layout, bench.spec, FileStamps(), None) == ""
    assert len(footers) == len(set(footers)) == 6, "two of chunks, and two of each vector"


def test_a_file_that_cannot_be_read_now_is_left_where_it_is(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was set aside as damaged, and computed again."""
    bench = make_bench()
    bench.finish()
    before = sorted(path for path in bench.root.rglob("*") if path.is_file())

    def fail(path: object) -> None:
        raise OSError(errno.EIO, "Failed to open local file", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("embedfleet.protocol.run_directory.tables.pq.read_schema", fail)
        with pytest.raises(RunDirectoryError, match=r"parquet: cannot be read now \(Input/output error\)"):
            balance.find_imbalance(bench.layout, bench.spec, FileStamps(), None)
    assert sorted(path for path in bench.root.rglob("*") if path.is_file()) == before
    assert balance.find_imbalance(bench.layout, bench.spec, FileStamps(), None) == ""


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("what", ["vectors", "chunks"])
def test_a_file_in_place_of_the_committed_one_is_set_aside(
    make_bench: Callable[..., Bench], what: str, earlier: bool
) -> None:
    """Also where it says the same of itself: of a session before, or of this one."""
    bench = make_bench()
    if earlier:
        bench.finish()
    session = bench.begin()
    for segment in (0, 1):
        session.rows(segment)
    session.source_read(2)
    session.wait()
    path = bench.layout.vector_segment("dense-a", 1) if what == "vectors" else bench.layout.chunk_segment(1)
    shutil.copyfile(path, path.with_name("copy"))
    path.with_name("copy").rename(path)
    aside = "passes/dense-a.00001.parquet.damaged" if what == "vectors" else "intake/00001.parquet.damaged"
    assert f"{path} is not the file that was committed (it is {aside} now)" in session.close().problem
    assert not path.exists()
    if what == "chunks":
        bench.layout.intake.unlink()  # as the intake does where a segment of it is gone
    assert bench.finish().problem == ""
    assert verify_run(bench.root).ok


def test_a_segment_behind_the_last_one_is_named_and_left_alone(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(DENSE, OTHER)
    bench.finish()
    stray = bench.layout.vector_segment("dense-b", 2)
    shutil.copyfile(bench.layout.vector_segment("dense-b", 1), stray)
    with pytest.raises(RunDirectoryError, match=f"{stray} was not written by this run.*move it away"):
        bench.begin()
    assert stray.exists()
    assert bench.layout.manifest.exists()


def test_counts_that_do_not_add_up_are_no_end(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that goes between the look at all of them and the recount."""

    def counted(*given: Any, **more: Any) -> tuple[Counts, list[dict[str, Any]]]:
        counts, passes = recount(*given, **more)
        return msgspec.structs.replace(counts, committed=counts.committed + ROWS), passes

    bench = make_bench()
    with monkeypatch.context() as patch:
        patch.setattr(export_runtime, "recount", counted)
        problem = bench.finish().problem
    assert "8 read, 12 committed + 0 quarantined" in problem
    assert not bench.layout.manifest.exists()
    assert bench.finish().problem == ""


def test_a_collection_of_other_points_is_made_anew(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("qdrant_edge")
    bench = make_bench(index="edge")
    with monkeypatch.context() as patch:
        patch.setattr(export_runtime, "find_difference", lambda counts, _points: find_difference(counts, 7))
        assert "holds 7 points for 8 chunks; run the same command again, which makes it anew" in bench.finish().problem
    assert not bench.layout.published.exists()
    assert bench.finish().published == 2 * ROWS
    assert verify_run(bench.root).ok


@pytest.mark.parametrize("early", [False, True])
def test_a_collection_that_goes_meanwhile_is_named(make_bench: Callable[..., Bench], early: bool) -> None:
    """Before something more is put into it, which the engine refuses in its own words, and behind the last."""
    pytest.importorskip("qdrant_edge")
    bench = make_bench(index="edge")
    session = bench.begin()
    for segment in (0, 1):
        if segment and early:
            session.wait()
            shutil.rmtree(bench.layout.edge)
        session.rows(segment)
    session.source_read(2)
    if not early:
        session.wait()
        shutil.rmtree(bench.layout.edge)
    session.close()
    assert any(
        f"{bench.layout.edge} is gone; run the same command again, which makes it anew" in str(one)
        for one in session.heard
    )
    assert not bench.layout.manifest.exists()
    assert bench.finish().published == 2 * ROWS


@pytest.mark.parametrize(("content", "what"), [(None, "is gone"), (b"{", "cannot be read")])
def test_a_vector_of_which_nobody_knows_the_model_any_more(
    make_bench: Callable[..., Bench], content: bytes | None, what: str
) -> None:
    bench = make_bench()
    session = bench.begin()
    for segment in (0, 1):
        session.rows(segment)
    session.source_read(2)
    session.wait()
    path, folder = bench.layout.pass_file("dense-a"), bench.layout.vector_folder("dense-a")
    path.unlink() if content is None else path.write_bytes(content)
    told = session.close().problem
    both = f"the folder {folder}" if content is None else f"{path} and the folder {folder}"
    assert f"{path} {what}; delete {both} and run the same command again" in told
    shutil.rmtree(folder)
    path.unlink(missing_ok=True)
    assert bench.finish().problem == ""
    assert verify_run(bench.root).ok
