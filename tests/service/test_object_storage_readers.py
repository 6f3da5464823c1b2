"""What reads a run directory in object storage, while a run writes there and afterwards."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedfleet
import pytest
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.search.hybrid import search
from embedfleet.client.steps.remote_out import RemoteDirectory
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.object_storage.address import parse_address
from embedfleet.protocol.run_directory.directory_lock import STORE_LOCK

from ..object_store.server import Bucket

RUN = ("--dense", "fake:8", "--devices", "cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"c{n}", "text": f"text {n}"}) + "\n" for n in range(90)))
    return path


def work(bucket: Bucket, key: str, spool: Path, part: str = "") -> Any:
    address = parse_address(bucket.url(key), "--out")
    return RemoteDirectory(address, spool, keep_spool=False).opened(part, lambda _line: None)


class TestARunAtWork:
    @pytest.fixture
    def at_work(self, start: Any, bucket: Bucket, tmp_path: Path) -> Iterator[Any]:
        source = tmp_path / "many.jsonl"
        texts = [f"text {n}" for n in range(39_999)] + ["the last one"]  # whose batch never ends
        source.write_text("".join(json.dumps({"id": f"c{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
        run = start("run", source, "--out", bucket.url("work"), "--dense", "fake:8,hang_on=last", "--devices", "cpu")
        end = time.monotonic() + 60
        while not [name for name in bucket.keys("work/vectors") if name.endswith(".parquet")]:
            assert time.monotonic() < end, run.err
            assert run.process.poll() is None, run.err
            time.sleep(0.05)  # the bucket itself is awaited
        return run

    def test_it_runs_until_it_is_killed(self, cli: Any, bucket: Bucket, at_work: Any) -> None:
        out = bucket.url("work")
        found = cli("info", out, "--json").json
        assert (found["status"], found["root"]) == ("running", out)
        running = found["running"]
        assert (running["pid"], running["host"], running["step"]) == (at_work.process.pid, socket.gethostname(), "run")
        assert running["vectors"]["dense-fake-8"]["rows"] >= 16_384
        shown = cli("info", out).out.decode()
        assert f"running: process {at_work.process.pid} on {socket.gethostname()} since " in shown
        assert " of 40,000" in shown
        assert cli("verify", out, "--json").json["running"]["pid"] == at_work.process.pid
        at_work.signal(signal.SIGKILL)
        at_work.wait()
        at_work.all_gone(20)
        assert f"work/{STORE_LOCK}" in bucket.keys("work")
        killed = cli("info", out, "--json").json
        assert (killed["status"], killed["running"]) == ("interrupted", None)
        assert "interrupted: dense-fake-8" in cli("verify", out, code=1).out.decode()


def test_a_run_that_has_written_nothing_yet_is_told(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    with work(bucket, "begun", tmp_path / "spool"):
        error = cli("info", bucket.url("begun"), code=2).error
    assert "/begun: a run has just begun there (process " in error
    assert "look again in a moment" in error
    assert "there is no run; check bucket and key" in cli("info", bucket.url("begun"), code=2).error


def test_shards_that_run_are_told(cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path) -> None:
    out = bucket.url("sharded")
    cli("run", corpus, "--out", out, *RUN, "--shard", "0/3")

    def found() -> tuple[str, int, list[int], list[int]]:
        one = cli("info", out, "--json").json
        return one["status"], one["done"], one["running"], one["missing"]

    with work(bucket, "sharded", tmp_path / "one", "shards/00001"):
        assert found() == ("unmerged", 1, [1], [2])
    assert found() == ("unmerged", 1, [], [1, 2])
    with work(bucket, "sharded", tmp_path / "all"):
        assert found() == ("running", 1, [], [1, 2])
        assert "a process runs them now" in cli("info", out).out.decode()
    shown = cli("info", out).out.decode()
    assert f"{out}: unmerged" in shown
    assert f"--out {out} --shard 1/3" in shown
    assert cli("info", out, "--json").json["root"] == out


def test_a_merge_of_nothing_leaves_no_spool(cli: Any, bucket: Bucket) -> None:
    refused = cli("merge", bucket.url("nothing"), code=2).error
    assert "is not made of shards" in refused
    assert "the spool" not in refused


class TestUploads:
    """A directory of shards is uploaded from its address, each shard from a host that has nothing else of it."""

    @pytest.fixture
    def qdrant(self) -> Iterator[Any]:
        pytest.importorskip("qdrant_client")
        pytest.importorskip("tenacity")
        from ..qdrant_server.server import serving

        with serving() as store:
            yield store

    @pytest.fixture
    def upload(self, cli: Any, qdrant: Any) -> Any:
        def call(out: str, *flags: str, code: int = 0) -> Any:
            where = ("--url", "http://127.0.0.1", "--grpc-port", str(qdrant.port))
            return cli("upload", out, *where, *flags, code=code)

        return call

    @pytest.fixture
    def out(self, cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path) -> str:
        for index in range(2):
            cli("run", corpus, "--out", tmp_path / "run", *RUN, "--shard", f"{index}/2")
        return bucket.put_folder("runs/sharded", tmp_path / "run")

    def test_each_shard_and_then_the_whole(self, upload: Any, qdrant: Any, bucket: Bucket, out: str) -> None:
        for index in (1, 0):
            bucket.proxy.requests.clear()
            done = upload(out, "--shard", f"{index}/2", "--json").json
            assert (done["collection"], done["shard"]) == ("sharded", f"{index}/2")
            other = f"shards/{1 - index:05d}"
            assert not [path for method, path in bucket.proxy.requests if method == "GET" and other in path]
        done = upload(out, "--finish", "--json").json
        assert (done["collection"], done["points"], done["shards"]) == ("sharded", 90, 2)
        assert {one["id"] for one, _ in qdrant.collections["sharded"].rows().values()} == {f"c{n}" for n in range(90)}

    def test_what_is_missing_is_named_with_the_address(self, upload: Any, bucket: Bucket, out: str) -> None:
        upload(out, "--shard", "0/2")
        error = upload(out, "--finish", code=1).error
        assert "1 of 2 shards are not there whole: 1/2 has 0 of" in error
        assert f"embedfleet upload {out} --url http://127.0.0.1 " in error
        bucket.delete("runs/sharded/shards/00001/manifest.json")
        error = upload(out, "--shard", "1/2", code=2).error
        assert f"{out}: 1 of 2 shards are not done" in error
        assert f"--out {out} --shard 1/2" in error
        assert "--shard 3/9" in upload(out, "--shard", "3/9", code=2).error
        assert f"`embedfleet merge {out}` makes one run of them" in upload(out, code=2).error
        shard = upload(f"{out}/shards/00000", code=2).error
        assert f"/shards/00000: is a shard; upload it by `embedfleet upload {out} --shard 0/2`" in shard
        assert "has no shards" in upload(f"{out}/shards/00000", "--finish", code=2).error

    def test_an_id_in_two_shards_is_found_though_the_other_is_elsewhere(
        self, cli: Any, upload: Any, bucket: Bucket, tmp_path: Path
    ) -> None:
        source = tmp_path / "twice.jsonl"
        source.write_text("".join(json.dumps({"id": f"c{n % 30}", "text": f"text {n}"}) + "\n" for n in range(60)))
        for index in range(3):
            cli("run", source, "--out", tmp_path / "twice", *RUN, "--shard", f"{index}/3")
        out = bucket.put_folder("twice", tmp_path / "twice")
        upload(out, "--shard", "0/3")
        error = upload(out, "--shard", "2/3", code=2).error
        assert f"{out}: the id 'c" in error
        assert "stands in two shards: 0/3, row " in error

    def test_from_python(self, bucket: Bucket, qdrant: Any, cli: Any, out: str) -> None:
        from contextlib import closing

        from embedfleet.client.upload.server import connect
        from embedfleet.client.upload.uploader import upload_run

        run = embedfleet.merge(out)
        assert run.complete
        assert run.rows == 90
        assert "runs/sharded/manifest.json" in bucket.keys("runs/sharded")
        assert embedfleet.merge(out).ids == run.ids
        with closing(connect("http://127.0.0.1", None, grpc=True, grpc_port=qdrant.port)) as client:
            done = upload_run(out, client)
        assert (done.collection, done.points) == ("sharded", 90)
        assert embedfleet.open_run(out).ids == run.ids
        assert json.loads(cli("merge", out, "--json").out)["root"] == out


@pytest.fixture(scope="module")
def plan(cli: Any, corpus: Path) -> Path:
    """A written plan."""
    path = corpus.with_name("plan.json")
    cli("plan", corpus, *RUN, "--write", path)
    return path


ADDRESS = "s3://no-such-bucket/run"
MISSING = "the bucket no-such-bucket does not exist"
LOCAL = "only local paths are read and written"


class TestWhatTakesAnAddress:
    """Every command and public function works with an address, or refuses it with one line that names it."""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("info", ADDRESS), MISSING),
            (("verify", ADDRESS), MISSING),
            (("search", ADDRESS, "word"), MISSING),
            (("query-vectors", ADDRESS, "word"), MISSING),
            (("export", ADDRESS), MISSING),
            (("upload", ADDRESS, "--url", "http://127.0.0.1"), MISSING),
            (("upload", ADDRESS, "--url", "http://127.0.0.1", "--shard", "0/2"), MISSING),
            (("upload", ADDRESS, "--url", "http://127.0.0.1", "--finish"), MISSING),
            (("merge", ADDRESS), MISSING),
            (("fit", "CORPUS", "--out", ADDRESS), MISSING),
            (("run", "CORPUS", "--out", ADDRESS, "--shards", "2"), MISSING),
            (("run", "CORPUS", "--out", ADDRESS, "--on", "ray"), MISSING),
            (("run", "CORPUS", "--out", "run", "--queries", ADDRESS), MISSING),
            (("run", ADDRESS, "--out", "run"), MISSING),
            (("plan", ADDRESS), MISSING),
            (("plan", "CORPUS", "--out", ADDRESS, "--dense", "fake:8"), MISSING),
            (("plan", "PLAN", "--compare", ADDRESS), MISSING),
            (
                ("plan", "CORPUS", "--out", "hf://datasets/no-such-bucket/name/run"),
                "can only be read; give a local folder",
            ),
        ],
    )
    @pytest.mark.usefixtures("bucket")
    def test_commands(self, cli: Any, corpus: Path, plan: Path, tmp_path: Path, words: Any, message: str) -> None:
        paths = {"CORPUS": corpus, "PLAN": plan}
        done = cli(*(paths.get(one, one) for one in words), code=2, cwd=tmp_path)
        assert message in done.error
        assert ADDRESS.partition("//")[2].partition("/")[0] in done.error
        assert "Traceback" not in done.err

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (embedfleet.open_run, MISSING),
            (embedfleet.merge, MISSING),
            (verify_run, MISSING),
            (describe_run, MISSING),
            (lambda path: search(path, "word"), MISSING),
            (lambda path: embedfleet.plan(path, sparse="bm25"), MISSING),
            (lambda path: embedfleet.plan(__file__, out=path, dense="fake:8"), MISSING),
            (lambda path: embedfleet.Embedder(dense="fake:4", out=path), LOCAL),
        ],
    )
    @pytest.mark.usefixtures("bucket")
    def test_functions(self, call: Any, message: str) -> None:
        for path in (ADDRESS, Path(ADDRESS)):
            with pytest.raises(embedfleet.EmbedfleetError, match=message):
                call(path)

    def test_a_plan_of_a_source_there(self, cli: Any, bucket: Bucket, corpus: Path) -> None:
        source = bucket.put("c/corpus.jsonl", corpus.read_bytes())
        assert cli("plan", source, *RUN, "--json").json["rows"]["value"] == 90
        assert embedfleet.plan(source, dense="fake:8", devices="cpu").rows.value == 90

    def test_a_plan_beside_a_run_there(
        self, cli: Any, bucket: Bucket, corpus: Path, plan: Path, tmp_path: Path
    ) -> None:
        """The rates of a run in object storage count, and a plan is compared with it. Nothing is written there."""
        out = bucket.url("runs/planned")
        slow = ("--dense", "fake:8,delay_ms=1200", "--devices", "cpu", "--out", out)
        before = cli("plan", corpus, *slow, "--json")
        assert "--index none: no collection is made in s3://" in before.err
        assert before.json["passes"][0]["tokens_per_second"] is None
        assert bucket.keys() == []
        cli("run", corpus, *slow, "--spool", tmp_path / "spool")
        keys = bucket.keys()
        bucket.proxy.requests.clear()
        planned = cli("plan", corpus, *slow, "--json").json
        rate = planned["passes"][0]["tokens_per_second"]
        assert (rate["basis"], rate["note"]) == ("measured", f"the run in {out}")
        assert not [path for method, path in bucket.proxy.requests if method == "GET" and ".parquet" in path]
        assert {method for method, _ in bucket.proxy.requests} == {"GET"}
        assert planned["collection_bytes"] is None
        found = embedfleet.plan(corpus, dense="fake:8,delay_ms=1200", devices="cpu", out=out)
        assert (found.passes[0].tokens_per_second.note, found.collection_bytes) == (rate["note"], None)
        kept = cli("plan", corpus, *slow, "--index", "edge", "--json").json
        assert kept["collection_bytes"]["value"] > 0, "made in the spool"
        compared = {one["name"]: one for one in cli("plan", plan, "--compare", out, "--json").json}
        assert compared["rows"] == {"name": "rows", "planned": 90, "basis": "counted", "real": 90, "ratio": 1}
        assert bucket.keys() == keys
