"""Run directories in object storage: what a local run writes, whatever the server does, and one writer at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import embedfleet
import numpy as np
import pytest
from embedfleet.client.steps.remote_out import RemoteDirectory
from embedfleet.protocol.errors import EmbedfleetError, RunDirectoryError
from embedfleet.protocol.object_storage import fetch, mirror, ranges, stores
from embedfleet.protocol.object_storage.address import parse_address
from embedfleet.protocol.object_storage.objects import PART_BYTES, ObjectFolder
from embedfleet.protocol.object_storage.spool import Spool
from embedfleet.protocol.run_directory.atomic_files import commit_bytes, commit_new, make_folder

from ..object_store.proxy import Fault
from ..object_store.server import Bucket

RUN = ("--dense", "fake:8")
LOCK = ".embedfleet.lock"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    rows = (json.dumps({"id": f"c{n}", "text": f"text {n} " * (1 + n % 7)}) for n in range(40_000))
    path.write_text("".join(f"{row}\n" for row in rows) + "no json\n")
    return path


@pytest.fixture(scope="module")
def local_run(cli: Any, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "run"
    cli("run", corpus, "--out", out, *RUN, "--index", "none", code=3)
    return out


def same(one: Path | str, other: Path | str) -> None:
    a, b = embedfleet.open_run(one), embedfleet.open_run(other)
    assert a.complete
    assert b.complete
    assert a.chunks.equals(b.chunks)
    assert a.vector_names == b.vector_names
    for name in a.vector_names:
        assert np.array_equal(a.vectors(name), b.vectors(name), equal_nan=True)
    assert a.quarantine == b.quarantine


def test_a_run_there_is_the_run_here(cli: Any, bucket: Bucket, corpus: Path, local_run: Path) -> None:
    out = bucket.url("runs/mine")
    done = cli("run", corpus, "--out", out, *RUN, code=3)
    assert f"--index none: no collection is made in {out}" in done.err
    assert f"next: embedfleet verify {out}" in done.err
    assert "spools" not in done.err
    names = bucket.keys("runs/mine")
    assert not any(LOCK in name or "probe" in name for name in names)
    wanted = {path.relative_to(local_run).as_posix() for path in local_run.rglob("*") if path.is_file()} - {".lock"}
    assert {name.removeprefix("runs/mine/") for name in names} == wanted
    same(out, local_run)
    cli("verify", out)
    described = json.loads(cli("info", out, "--json").out)
    assert (described["root"], described["chunks"]["rows"]) == (out, 40_000)
    assert not list((Path(os.environ["XDG_CACHE_HOME"]) / "embedfleet" / "spools").glob("*/mine"))
    for name in names:
        assert b"very-secret-key" not in (bucket.get(name) or b"")


def test_the_same_command_adds_a_model_from_another_place(
    cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path
) -> None:
    out = bucket.url("two")
    cli("run", corpus, "--out", out, *RUN, "--limit", "50")
    first = {name: bucket.get(name) for name in bucket.keys("two/vectors")}
    done = cli("run", corpus, "--out", out, *RUN, "--dense", "fake:16", "--limit", "50", "--spool", tmp_path / "s",
               "--keep-spool")  # fmt: skip
    assert "objects there; " in done.err
    assert {name: bucket.get(name) for name in first} == first
    run = embedfleet.open_run(out)
    assert run.complete
    assert run.vectors("dense-fake-16").shape == (50, 16)
    assert (tmp_path / "s" / "two" / "manifest.json").exists()
    error = cli("run", corpus, "--out", out, "--dense", "fake:4", "--limit", "50", code=2).error
    assert f"--out {out} holds a run of another spec" in error
    cli("run", corpus, "--out", out, "--dense", "fake:4", "--limit", "50", "--restart")
    assert {name.split("/")[2] for name in bucket.keys("two/vectors")} == {"dense-fake-4"}


@pytest.mark.parametrize("kind", ["busy", "drop", "late"])
def test_faults_lose_and_tear_nothing(cli: Any, bucket: Bucket, corpus: Path, local_run: Path, kind: Any) -> None:
    out = bucket.url("f")
    for part in (LOCK, "chunks/00000", "chunks/00001", "vectors/dense-fake-8/00000", "vectors/dense-fake-8/00002",
                 "spec.json", "manifest.json", "probe"):  # fmt: skip
        bucket.fail(Fault(kind, "PUT", part))
    cli("run", corpus, "--out", out, *RUN, code=3)
    same(out, local_run)
    assert all(fault.seen > 1 for fault in bucket.proxy.faults)


def test_a_store_that_stays_away_stops_the_run_and_the_command_resumes(
    cli: Any, bucket: Bucket, corpus: Path, local_run: Path
) -> None:
    out = bucket.url("away")
    bucket.fail(Fault("refuse", "PUT", "vectors/dense-fake-8/00001", times=999))
    error = cli("run", corpus, "--out", out, *RUN, code=1).error
    assert "cannot be written: permission denied" in error
    assert "the same command resumes" in error
    assert f"embedfleet run {corpus} --out {out} with its other flags" in cli("info", out).out.decode()
    stood = bucket.keys("away/vectors")
    assert stood
    assert not any("00001" in name for name in stood)
    bucket.proxy.faults.clear()
    bucket.proxy.requests.clear()
    cli("run", corpus, "--out", out, *RUN, code=3)
    same(out, local_run)
    assert not [
        path for method, path in bucket.proxy.requests if method == "PUT" and "vectors/dense-fake-8/00000" in path
    ]


def test_a_killed_run_goes_on_from_another_spool(
    cli: Any, start: Any, bucket: Bucket, corpus: Path, local_run: Path, tmp_path: Path
) -> None:
    out = bucket.url("killed")
    slow = ("--dense", "fake:8,delay_ms=200")
    run = start("run", corpus, "--out", out, *slow, "--spool", tmp_path / "one")
    end = time.monotonic() + 60
    while not [name for name in bucket.keys("killed/vectors") if name.endswith(".parquet")]:
        assert time.monotonic() < end, run.err
        assert run.process.poll() is None, run.err
        time.sleep(0.05)  # the bucket itself is awaited
    run.signal(signal.SIGKILL)
    run.wait()
    run.all_gone(20)
    assert f"killed/{LOCK}" in bucket.keys("killed")
    assert "killed/manifest.json" not in bucket.keys("killed")
    stood = bucket.keys("killed/vectors")
    bucket.proxy.requests.clear()
    cli("run", corpus, "--out", out, *slow, "--spool", tmp_path / "two", code=3, seconds=170)
    puts = [path for method, path in bucket.proxy.requests if method == "PUT"]
    assert not [name for name in stood if any(name in path for path in puts)]
    ours, theirs = embedfleet.open_run(out), embedfleet.open_run(local_run)
    assert ours.complete
    assert ours.chunks.equals(theirs.chunks)
    assert np.array_equal(ours.vectors(), theirs.vectors())


def test_of_two_writers_the_second_is_refused(
    cli: Any, start: Any, bucket: Bucket, corpus: Path, tmp_path: Path
) -> None:
    out = bucket.url("both")
    first = start("run", corpus, "--out", out, "--dense", "fake:8,delay_ms=200")
    end = time.monotonic() + 60
    while f"both/{LOCK}" not in bucket.keys("both"):
        assert time.monotonic() < end, first.err
        time.sleep(0.05)  # the bucket itself is awaited
    refused = cli("run", corpus, "--out", out, *RUN, "--spool", tmp_path / "other", code=2)
    assert f"--out {out}: another run is writing there (process {first.process.pid} on " in refused.error
    assert ", since 20" in refused.error
    first.signal(signal.SIGTERM)
    first.wait(143)
    assert f"both/{LOCK}" not in bucket.keys("both")


def test_a_run_that_lost_its_lock_writes_nothing_more(start: Any, waiting: Any, bucket: Bucket) -> None:
    out = bucket.url("lost")
    run = start("run", "-", "--out", out, *RUN, stdin=subprocess.PIPE)
    run.process.stdin.write(b"".join(b'{"text":"row %d"}\n' % row for row in range(20_000)))
    run.process.stdin.flush()

    def segments() -> list[str]:
        assert run.process.poll() is None, run.err
        return [name for name in bucket.keys("lost/vectors") if name.endswith(".parquet")]

    waiting.eventually(segments, 60.0, "a segment")
    holder = json.loads(bucket.get(f"lost/{LOCK}") or b"")
    bucket.put(f"lost/{LOCK}", json.dumps(holder | {"token": "other", "host": "node7", "pid": 12}).encode())
    bucket.proxy.requests.clear()
    seen = lambda: [path for method, path in bucket.proxy.requests if method == "GET" and LOCK in path]  # noqa: E731
    waiting.eventually(seen, 60.0, "a look at the lock that could not be renewed")
    run.process.stdin.close()  # now it wants to write the rest
    run.wait(1, seconds=60)
    assert "this run has lost the lock: process 12 on node7 has taken it" in run.err
    assert "lost/manifest.json" not in bucket.keys("lost")
    assert json.loads(bucket.get(f"lost/{LOCK}") or b"")["token"] == "other"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("refuse", "PUT", "probe", times=99), "permission denied"),
        (Fault("refuse", "POST", "delete", times=99), "permission denied"),
        (Fault("refuse", "PUT", "probe", times=99, code="SignatureDoesNotMatch"), "the keys are refused"),
        (Fault("busy", "PUT", "probe", times=99), "too busy"),
    ],
)
def test_a_store_that_refuses_is_one_line_before_anything_begins(
    cli: Any, bucket: Bucket, corpus: Path, fault: Fault, message: str
) -> None:
    fault.seen = 0
    bucket.fail(fault)
    error = cli("run", corpus, "--out", bucket.url("x"), *RUN, code=2).error
    assert message in error
    assert bucket.url("x") in error
    bucket.proxy.faults.clear()
    assert not [name for name in bucket.keys("x") if "probe" not in name]


def test_flags_that_do_not_go_together(cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path) -> None:
    out = bucket.url("x")
    local = ("run", corpus, "--out", tmp_path / "run", *RUN)
    assert "--spool and --keep-spool are for an --out in object storage" in cli(*local, "--keep-spool", code=2).error
    edge = ("run", corpus, "--out", out, *RUN, "--index", "edge")
    assert "--index edge: in object storage there is no collection" in cli(*edge, code=2).error
    assert "give --keep-spool too" in cli(*edge, code=2).error
    assert "--index edge: a shard has no collection" in cli(*edge, "--keep-spool", "--shard", "0/2", code=2).error
    assert "is a whole bucket" in cli("run", corpus, "--out", f"s3://{bucket.name}", *RUN, code=2).error
    assert "can only be read" in cli("run", corpus, "--out", "https://host/x", *RUN, code=2).error
    assert "does not exist" in cli("run", corpus, "--out", "s3://no-such-bucket/x", *RUN, code=2).error
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    assert (
        "is not empty and no spool"
        in cli("run", corpus, "--out", out, *RUN, "--spool", tmp_path / "full", code=2).error
    )
    shown = cli("run", corpus, "--out", out, *RUN, "--write-config").out.decode()
    assert f'out = "{out}"' in shown
    assert bucket.keys() == []


def test_readers_say_where_there_is_no_run(cli: Any, bucket: Bucket) -> None:
    assert "there is no run; check bucket and key" in cli("info", bucket.url("none"), code=2).error
    assert "the bucket no-such-bucket does not exist" in cli("verify", "s3://no-such-bucket/x", code=2).error
    bucket.put("half/note.txt", b"x")
    assert "not a run directory" in cli("info", bucket.url("half"), code=2).error


def test_a_copy_is_brought_up_to_date_by_what_has_changed(cli: Any, bucket: Bucket, corpus: Path) -> None:
    out = bucket.url("copy")
    cli("run", corpus, "--out", out, *RUN, "--limit", "60")
    assert embedfleet.open_run(out).rows == 60
    bucket.proxy.requests.clear()
    assert cli("verify", out).code == 0
    assert [method for method, path in bucket.proxy.requests] == ["GET"]  # the listing
    cli("run", corpus, "--out", out, *RUN, "--dense", "fake:16", "--limit", "60")
    assert set(embedfleet.open_run(out).vector_names) == {"dense-fake-8", "dense-fake-16"}
    bucket.delete("copy/vectors/dense-fake-16/00000.parquet")
    assert "dense-fake-16" in cli("verify", out, code=1).out.decode()
    assert "/copy: chunks and dense-fake-16 differ" in cli("export", out, "--format", "npy", code=2).err


def test_a_run_there_is_searched_and_exported(cli: Any, bucket: Bucket, corpus: Path) -> None:
    out = bucket.url("find")
    cli("run", corpus, "--out", out, "--dense", "fake:8", "--sparse", "bm25", "--limit", "40", "--export", "npy")
    assert {"find/export/dense-fake-8.npy", "find/export/export.json"} <= set(bucket.keys("find"))
    hits = json.loads(cli("search", out, "text", "17", "--signals", "sparse", "--json", "--top-k", "1").out)
    assert hits[0]["id"] == "c17"
    bucket.proxy.requests.clear()
    done = cli("search", out, "text", "23", "--signals", "sparse", "--json", "--top-k", "1")
    assert json.loads(done.out)[0]["id"] == "c23"
    assert "making the collection" not in done.err
    assert len(bucket.proxy.requests) == 1
    assert "points.jsonl" in cli("export", out, "--format", "jsonl").err


def test_queries_and_rankings_are_there_too(cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path) -> None:
    out, here, spool = bucket.url("q"), tmp_path / "here", tmp_path / "spool"
    (tmp_path / "q.jsonl").write_text('{"_id": "1", "text": "text 5"}\n{"_id": "2", "text": "text 17"}\n')
    (tmp_path / "qrels").write_text("1 0 c5 1\n2 0 c17 1\n")
    command = ("run", corpus, *RUN, "--sparse", "bm25", "--limit", "40")
    asked = ("--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "qrels")
    refused = cli(*command, "--out", out, *asked, "--index", "none", code=2).error
    assert "--queries needs the searchable index" in refused
    assert bucket.keys() == []
    done = cli(*command, "--out", out, *asked, "--spool", spool, "--json")
    assert f"the collection is made in the spool, not in {out}, and goes with it" in done.err
    assert not spool.exists()
    cli(*command, "--out", here, *asked)
    there = bucket.get("q/export/rerank.jsonl")
    assert there == (here / "export" / "rerank.jsonl").read_bytes()
    assert done.json["rerank"]["file"] == f"{out}/export/rerank.jsonl"
    assert set(done.json["evaluation"]) == set(json.loads((here / "export" / "evaluation.json").read_bytes()))
    assert {"q/export/report.html", "q/queries/manifest.json", "q/rerank/candidates.json"} <= set(bucket.keys("q"))
    assert not [name for name in bucket.keys("q") if "qdrant" in name or "published" in name]
    cli("verify", out)
    (tmp_path / "q.jsonl").write_text('{"_id": "3", "text": "text 23"}\n')
    cli(*command, "--out", out, "--queries", tmp_path / "q.jsonl")  # into a new spool, with the store's files alone
    assert json.loads((bucket.get("q/export/rerank.jsonl") or b"").splitlines()[0])["query"] == "3"


def test_a_collection_stays_in_a_spool_that_is_kept(cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path) -> None:
    out, spool = bucket.url("kept"), tmp_path / "spool"
    command = ("run", corpus, "--out", out, "--sparse", "bm25", "--limit", "40", "--spool", spool, "--keep-spool")
    done = cli(*command, "--index", "edge")
    assert f"the collection is made in the spool, not in {out}, and stays there" in done.err
    assert f"the spool {spool} is kept; the run is its folder kept, with its collection" in done.err
    assert "collection: " in done.err
    assert (spool / "kept" / "qdrant").is_dir()
    before = bucket.keys("kept")
    assert not [name for name in before if "qdrant" in name or "published" in name]
    hits = cli("search", spool / "kept", "text", "17", "--json", "--top-k", "1").json
    assert hits[0]["id"] == "c17"
    grown = cli(*command, "--dense", "fake:8", "--index", "edge")
    assert "with its collection" in grown.err
    assert cli("search", spool / "kept", "text", "17", "--json", "--top-k", "1").json[0]["scores"].keys() == {
        *("dense-fake-8", "sparse-bm25")
    }
    cli("verify", out)
    cli("verify", spool / "kept")


def test_queries_after_shards_there(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    out, source = bucket.url("q-shards"), tmp_path / "c.jsonl"
    source.write_text("".join(json.dumps({"id": f"c{n}", "text": f"text {n}"}) + "\n" for n in range(40)))
    (tmp_path / "q.jsonl").write_text('{"_id": "1", "text": "text 5"}\n')
    flags = ("--out", out, "--sparse", "bm25", "--devices", "cpu", "--shards", "2")
    cli("run", source, *flags, "--queries", tmp_path / "q.jsonl")
    first = json.loads((bucket.get("q-shards/export/rerank.jsonl") or b"").splitlines()[0])
    assert (first["query"], first["id"]) == ("1", "c5")
    cli("verify", out)


@pytest.mark.parametrize("kind", ["busy", "drop", "late"])
def test_a_large_file_is_one_object_whatever_happens_to_its_parts(bucket: Bucket, tmp_path: Path, kind: Any) -> None:
    content = np.random.default_rng(1).bytes(2 * PART_BYTES + 12_345)
    (tmp_path / "large").write_bytes(content)
    folder = ObjectFolder(parse_address(bucket.url("parts"), "--out"))
    bucket.fail(Fault(kind, "PUT", "partNumber=2"), Fault(kind, "POST", "uploads"))
    folder.put("large", tmp_path / "large")
    assert bucket.get("parts/large") == content

    def lost() -> None:
        raise EmbedfleetError("the lock is lost")

    with pytest.raises(Exception, match="the lock is lost"):
        folder.put("other", tmp_path / "large", lost)
    assert "parts/other" not in bucket.keys("parts")


def test_a_run_that_has_no_room_here_is_refused(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = parse_address(bucket.url("room"), "--out")
    bucket.put("room/spec.json", b"{}")
    monkeypatch.setattr(fetch, "ROOM_BYTES", 1 << 60)
    with pytest.raises(RunDirectoryError, match=r"have to be fetched, and .* GB are free there; make room"):
        fetch.sync_from_store(Spool.make(tmp_path / "spool", address), ObjectFolder(address), strict=True)
    assert not (tmp_path / "spool" / "room").exists()


def test_an_object_that_is_replaced_while_it_is_fetched_is_fetched_as_it_is_then(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = parse_address(bucket.url("moving"), "DIR")
    bucket.put("moving/spec.json", b"old")
    folder, listed = ObjectFolder(address), ObjectFolder.list

    def list_then_replace(self: ObjectFolder, part: str) -> list[Any]:
        found = listed(self, part)
        if bucket.get("moving/spec.json") == b"old":
            bucket.put("moving/spec.json", b"new one")
        return found

    monkeypatch.setattr(ObjectFolder, "list", list_then_replace)
    spool = Spool.make(tmp_path / "copy", address, copy=True)
    assert fetch.sync_from_store(spool, folder, strict=False).fetched == 1
    assert (spool.root / "spec.json").read_bytes() == b"new one"


def test_several_shards_are_worked_on_at_once_each_by_one_process(bucket: Bucket, tmp_path: Path) -> None:
    address = parse_address(bucket.url("sharded"), "--out")
    bucket.put("sharded/shards.json", b"{}")
    bucket.put("sharded/shards/00000/spec.json", b"zero")
    bucket.put("sharded/shards/00001/spec.json", b"one")
    shown: list[str] = []

    def shard(number: int, spool: str, *, keep: bool = True) -> Any:
        return RemoteDirectory(address, tmp_path / spool, keep_spool=keep).opened(f"shards/{number:05d}", shown.append)

    with shard(0, "a") as first, shard(1, "b") as second:
        assert (first / "shards.json").read_bytes() == b"{}"
        assert (first / "shards" / "00000" / "spec.json").read_bytes() == b"zero"
        assert not (first / "shards" / "00001").exists()
        commit_bytes(second / "shards" / "00001" / "stats.json", b"{}")
        assert bucket.get("sharded/shards/00001/stats.json") == b"{}"
        with pytest.raises(RunDirectoryError, match="sharded/shards/00001: another run is writing there"):
            with shard(1, "c"):
                pass
    assert bucket.keys("sharded") == [
        "sharded/shards.json",
        *("sharded/shards/00000/spec.json", "sharded/shards/00001/spec.json", "sharded/shards/00001/stats.json"),
    ]
    assert "2 objects there; 2 of them fetched" in shown[0]


def test_a_listing_that_is_cut_short_is_made_anew(bucket: Bucket) -> None:
    bucket.put("listed/a", b"one")
    bucket.fail(Fault("cut", "GET", "list-type", times=2))
    assert [one.name for one in ObjectFolder(parse_address(bucket.url("listed"), "--out")).list()] == ["a"]


def test_of_a_shard_and_the_whole_only_one_is_worked_on(bucket: Bucket, tmp_path: Path) -> None:
    address = parse_address(bucket.url("parts"), "--out")

    def work(spool: str, part: str = "") -> Any:
        return RemoteDirectory(address, tmp_path / spool, keep_spool=True).opened(part, lambda _line: None)

    with (
        work("shard", "shards/00001"),
        pytest.raises(RunDirectoryError, match="parts/shards/00001: another run is writ"),
    ):
        with work("all"):
            pass
    with work("all"), pytest.raises(RunDirectoryError, match=r"--out s3://\S+/parts: another run is writing there"):
        with work("shard", "shards/00001"):
            pass
    assert bucket.keys("parts") == []


def test_shards_may_share_the_folder_of_their_spools(bucket: Bucket, tmp_path: Path) -> None:
    address = parse_address(bucket.url("one-spool"), "--out")

    def shard(number: int) -> Any:
        part = f"shards/{number:05d}"
        return RemoteDirectory(address, tmp_path / "spool", keep_spool=False).opened(part, lambda _line: None)

    with shard(0) as first:
        commit_bytes(first / "shards.json", b"{}")
        make_folder(first / "shards" / "00000")
        commit_bytes(first / "shards" / "00000" / "spec.json", b"zero")
        with shard(1) as second:
            assert (first / "shards" / "00000" / "spec.json").read_bytes() == b"zero"
            make_folder(second / "shards" / "00001")
            commit_bytes(second / "shards" / "00001" / "spec.json", b"one")
            with pytest.raises(
                RunDirectoryError, match=r"--spool \S+/spool/shards-00001: another process is working in it"
            ):
                with shard(1):
                    pass
        commit_bytes(first / "shards" / "00000" / "stats.json", b"{}")
    assert bucket.keys("one-spool") == [
        *("one-spool/shards.json", "one-spool/shards/00000/spec.json"),
        *("one-spool/shards/00000/stats.json", "one-spool/shards/00001/spec.json"),
    ]


def test_of_two_first_shards_the_second_compares_with_the_record_of_the_first(bucket: Bucket, tmp_path: Path) -> None:
    address = parse_address(bucket.url("first"), "--out")
    with RemoteDirectory(address, tmp_path / "s", keep_spool=True).opened("shards/00001", lambda _line: None) as folder:
        bucket.put("first/shards.json", b"of the other")  # after this one has looked
        with pytest.raises(FileExistsError):
            commit_new(folder / "shards.json", b"ours")
        assert (folder / "shards.json").read_bytes() == b"of the other"
    assert bucket.get("first/shards.json") == b"of the other"


def test_requests_that_get_no_answer_in_time_are_made_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout of a request is three times its patience: 0.9 s here."""
    monkeypatch.setattr(mirror, "REQUEST_PATIENCE", 0.3)
    monkeypatch.setattr(ranges, "open_store", lambda address: stores.open_store(address, 0.3))
    address = parse_address(bucket.url("slow"), "--out")
    with RemoteDirectory(address, tmp_path / "spool", keep_spool=True).opened("", lambda _line: None) as folder:
        bucket.fail(Fault("stall", "PUT", "spec.json", seconds=1.5, times=2))
        commit_bytes(folder / "spec.json", b"one")
        assert bucket.get("slow/spec.json") == b"one"
    bucket.fail(Fault("stall", "GET", "spec.json", seconds=1.5, times=2))
    about = ObjectFolder(address).head("spec.json")
    assert about is not None
    store = ranges.StoreRanges(address.below("spec.json"), about.size, about.e_tag)
    assert ranges.read_range(store, address, 0, 3) == b"one"
    assert all(fault.seen > 1 for fault in bucket.proxy.faults)


def test_source_and_run_there_with_every_fault_at_once(
    cli: Any, bucket: Bucket, corpus: Path, local_run: Path, tmp_path: Path
) -> None:
    source, out = bucket.put("source/corpus.jsonl", corpus.read_bytes()), bucket.url("all/of/it")
    for place, kind in enumerate(("busy", "late", "drop", "cut")):
        bucket.fail(
            *(Fault(kind, "GET", part, skip=place) for part in ("list-type", "source/corpus.jsonl")),
            *(
                Fault(kind if kind != "cut" else "late", "PUT", part, skip=2 * place)
                for part in ("chunks", "vectors", LOCK)
            ),
        )
    cli("run", source, "--out", out, *RUN, "--spool", tmp_path / "spool", code=3)
    same(out, local_run)
    assert sum(fault.seen > fault.skip for fault in bucket.proxy.faults) >= 8


def test_shards_there_are_merged_there(cli: Any, bucket: Bucket, corpus: Path, local_run: Path) -> None:
    """Each shard by a command of its own, from a source that is there too, with a fit before them."""
    bucket.put("shards-source/corpus.jsonl", corpus.read_bytes())
    source, out = bucket.url("shards-source"), bucket.url("runs/shards")
    flags = (*RUN, "--sparse", "bm25", "--devices", "cpu")
    assert "embedfleet fit" in cli("run", source, "--out", out, *flags, "--shard", "0/3", code=2).error
    cli("fit", source, "--out", out, *flags)
    for index in (1, 2, 0):
        cli("run", source, "--out", out, *flags, "--shard", f"{index}/3", code=3 if index == 2 else 0)
    assert cli("info", out, "--json").json["done"] == 3
    cli("merge", out, code=3)
    there, here = embedfleet.open_run(out), embedfleet.open_run(local_run)
    assert there.chunks.equals(here.chunks)
    assert np.array_equal(there.vectors("dense-fake-8"), here.vectors("dense-fake-8"))
    cut = corpus.stat().st_size * 2 // 3
    (reject,), (same_reject,) = there.quarantine, here.quarantine
    before = corpus.read_bytes()[: cut - 1].count(b"\n") + 1
    assert same_reject["record"] == 40_001
    assert reject == {**same_reject, "record": 40_001 - before, "from_byte": cut}
    cli("verify", out)


def test_a_first_command_with_wrong_flags_does_not_keep_the_directory(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    source, out = tmp_path / "c.jsonl", bucket.url("wrong")
    source.write_text("".join(json.dumps({"id": f"c{n}", "text": f"text {n}"}) + "\n" for n in range(40)))
    run = ("run", source, "--out", out, "--devices", "cpu")
    refused = cli(*run, "--dense", tmp_path, "--shard", "0/2", code=2).error  # an empty folder is no model
    assert str(tmp_path) in refused
    cli(*run, "--dense", "fake:4", "--shard", "0/3")
    other = cli(*run, "--dense", "fake:8", "--shard", "1/2", code=2).error
    assert (
        f"--out {out} holds 3 shards and not 2; give the same number. To begin anew with these: run shard 0, which"
        in other
    )
    assert "with --restart first" in other
    cli(*run, "--dense", "fake:8", "--shard", "0/2", "--restart")
    cli(*run, "--dense", "fake:8", "--shard", "1/2")
    stuck = cli(*run, "--dense", "fake:4", "--shard", "1/2", "--restart", code=2).error
    assert (
        f"--out {out} holds shards of another spec: passes: dense-fake-4 is new; passes: dense-fake-8 is gone" in stuck
    )
    assert "run shard 0, which alone" in stuck
    many = cli(*run, "--dense", "fake:4", "--shard", "0/2", code=2).error
    assert f"delete {out}/shards and {out}/shards.json yourself" in many
    cli(*run, "--dense", "fake:4", "--shards", "2", "--restart")
    found = embedfleet.open_run(out)
    assert (found.vector_names, found.rows) == (("dense-fake-4",), 40)
    cli("verify", out)
