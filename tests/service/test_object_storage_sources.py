"""Sources in object storage: the same rows as from a local folder, whatever the server does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import embedfleet
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ..object_store.proxy import Fault
from ..object_store.server import Bucket

RUN = ("--dense", "fake:8", "--index", "none")


def lines(name: str, count: int) -> bytes:
    return b"".join(
        json.dumps({"id": f"{name}{n}", "text": f"{name} text {n} " * 9}).encode() + b"\n" for n in range(count)
    )


def parquet(name: str, count: int, path: Path) -> None:
    rows = {"id": [f"{name}{n}" for n in range(count)], "text": [f"{name} text {n} " * 9 for n in range(count)]}
    pq.write_table(pa.table(rows), path, row_group_size=1000, compression="none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each format, with names that have to be quoted, and files that are not read."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a b+c.jsonl").write_bytes(lines("plain", 4000) + b"not json\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines("gzip", 3000)))
    with pa.output_stream(str(folder / "c.jsonl.zst"), compression="zstd") as packed:
        packed.write(lines("zstd", 3000))
    parquet("parquet", 3500, folder / "d.parquet")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "e.json").write_text(json.dumps([{"id": "j0", "text": "array"}]))
    (folder / "deep" / "x_chunks.json").write_text(json.dumps([{"id": "k0", "text": "collection"}]))
    (folder / "settings.json").write_text("{}")
    (folder / ".hidden.jsonl").write_bytes(lines("hidden", 1))
    (folder / "notes.txt").write_text("no")
    return folder


def same(one: Path | str, other: Path | str) -> None:
    """The two runs have the same rows, vectors and rejected records."""
    a, b = embedfleet.open_run(one), embedfleet.open_run(other)
    assert a.complete
    assert b.complete
    assert a.chunks.equals(b.chunks)
    for name in a.vector_names:
        assert np.array_equal(a.vectors(name), b.vectors(name), equal_nan=True)
    assert a.quarantine == b.quarantine


@pytest.fixture(scope="module")
def local_run(cli: Any, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "run"
    cli("run", corpus, "--out", out, *RUN, code=3)
    return out


def test_a_prefix_is_read_as_the_same_folder(
    cli: Any, bucket: Bucket, corpus: Path, local_run: Path, tmp_path: Path
) -> None:
    source = bucket.put_folder("data/v1", corpus)
    bucket.put("data/v10/other.jsonl", lines("other", 5))
    done = cli("run", source, "--out", tmp_path / "run", *RUN, code=3)
    same(tmp_path / "run", local_run)
    assert "1 .txt (notes.txt)" in done.err
    assert "1 hidden (.hidden.jsonl)" in done.err
    again = cli("run", source, "--out", tmp_path / "run", *RUN, "--json", code=3).json
    assert again["committed"] == 13502
    for path in (tmp_path / "run").rglob("*.json*"):
        assert b"very-secret-key" not in path.read_bytes()


@pytest.mark.parametrize("kind", ["busy", "drop", "cut", "late"])
def test_faults_lose_and_double_nothing(
    cli: Any, bucket: Bucket, corpus: Path, local_run: Path, tmp_path: Path, kind: Any
) -> None:
    source = bucket.put_folder("data", corpus)
    for name in ("/a%20b", "b.jsonl.gz", "c.jsonl.zst", "d.parquet"):
        bucket.fail(Fault(kind, "GET", name, times=2, skip=int(name == "/a%20b")))  # the first one is the client's
    bucket.fail(Fault("busy", "GET", "list-type", times=1))
    cli("run", source, "--out", tmp_path / "run", *RUN, code=3)
    same(tmp_path / "run", local_run)
    assert all(fault.seen > fault.skip for fault in bucket.proxy.faults)


def test_an_object_may_be_named_alone(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.put("one.jsonl", lines("one", 30))
    assert cli("run", source, "--out", tmp_path / "run", *RUN, "--json").json["committed"] == 30
    assert json.loads((tmp_path / "run" / "spec.json").read_bytes())["source"] == source


def test_large_files_are_read_in_parts_and_a_kill_resumes(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    content = lines("large", 60_000)
    source = bucket.put("large/a.jsonl", content)
    (tmp_path / "local.jsonl").write_bytes(content)
    cli("run", tmp_path / "local.jsonl", "--out", tmp_path / "local", *RUN)
    bucket.proxy.requests.clear()
    cli("run", source, "--out", tmp_path / "run", *RUN)
    a, b = embedfleet.open_run(tmp_path / "run"), embedfleet.open_run(tmp_path / "local")
    assert a.ids == b.ids
    assert np.array_equal(a.vectors(), b.vectors())
    listed = [path for method, path in bucket.proxy.requests if "list-type" in path]
    assert len(listed) <= 3  # by the client, for the size, and by the intake: none while it reads
    gets = [path for method, path in bucket.proxy.requests if method == "GET" and path.endswith("a.jsonl")]
    assert len(gets) < 12


def test_a_source_that_changed_is_refused_with_the_file(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.put("s/a.jsonl", lines("one", 30))
    cli("run", bucket.url("s"), "--out", tmp_path / "run", *RUN)
    bucket.put("s/a.jsonl", lines("two", 30))
    assert source
    error = cli("run", bucket.url("s"), "--out", tmp_path / "run", "--dense", "fake:8", "--dense", "fake:16",
                "--index", "none", code=2).error  # fmt: skip
    assert "the source changed since its intake began: a.jsonl has other content" in error
    bucket.put("s/a.jsonl", lines("one", 30))  # the same content at another time
    cli("run", bucket.url("s"), "--out", tmp_path / "run", "--dense", "fake:8", "--dense", "fake:16", "--index", "none")


def test_a_file_that_changes_while_it_is_read_ends_the_run(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.put("s/a.jsonl", lines("one", 9000))
    bucket.fail(Fault("refuse", "GET", "a.jsonl", status=412, code="PreconditionFailed", skip=2, times=99))
    error = cli("run", source, "--out", tmp_path / "run", *RUN, code=2).error
    assert f"{source}: changed while it was read" in error


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("refuse", "GET", "list-type", times=99, code="AccessDenied"), "permission denied"),
        (Fault("refuse", "GET", "list-type", times=99, code="InvalidAccessKeyId"), "the keys are refused"),
        (
            Fault("refuse", "GET", "list-type", times=99, status=301, code="PermanentRedirect",
                  more="<Region>eu-west-1</Region>"),
            "is in another region; set AWS_REGION",
        ),
        (Fault("refuse", "GET", "a.jsonl", times=99, code="AccessDenied"), "permission denied"),
        (Fault("busy", "GET", "list-type", times=99), "too busy"),
        (Fault("drop", "GET", "list-type", times=99), "cannot be reached"),
    ],
)  # fmt: skip
def test_a_store_that_refuses_is_one_line_before_anything_begins(
    cli: Any, bucket: Bucket, tmp_path: Path, fault: Fault, message: str
) -> None:
    bucket.put("s/a.jsonl", lines("one", 3))
    fault.seen = 0
    bucket.fail(fault)
    error = cli("run", bucket.url("s"), "--out", tmp_path / "run", *RUN, code=2).error
    assert message in error
    assert "very-secret-key" not in error
    assert not (tmp_path / "run").exists()


def test_places_that_are_not_there_are_named(
    cli: Any, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error(source: str) -> str:
        return cli("run", source, "--out", tmp_path / "run", *RUN, code=2).error

    assert "the bucket no-such-bucket does not exist" in error("s3://no-such-bucket/x")
    assert "there are no chunks; looked for *.jsonl" in error(bucket.url("nothing"))
    bucket.put("e/a.jsonl", b"")
    assert "holds only empty files (1)" in error(bucket.url("e"))
    bucket.put("r/spec.json", b"{}")
    bucket.put("r/intake/limits.json", b"{}")
    assert "holds a run, not a corpus" in error(bucket.url("r"))
    bucket.put("t/a.txt", b"x")
    assert "It has 1 .txt (a.txt)" in error(bucket.url("t"))
    assert ".txt is not supported" in error(bucket.url("t/a.txt"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "no keys were found; set AWS_ACCESS_KEY_ID" in error(bucket.url("t"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE=nobody: no such profile" in error(bucket.url("t"))
    assert not (tmp_path / "run").exists()


def test_a_host_that_does_not_answer(cli: Any, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9 cannot be reached" in cli("run", bucket.url("t"), "--out", tmp_path / "r", *RUN, code=2).error
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no.such.host.invalid")
    error = cli("run", bucket.url("t"), "--out", tmp_path / "r", *RUN, code=2).error
    assert "the name of no.such.host.invalid does not resolve" in error


def test_a_profile_has_the_keys(cli: Any, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bucket.put("p/a.jsonl", lines("one", 3))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile mine]\nregion = us-east-1\nendpoint_url = {bucket.proxy.url}\n")
    (tmp_path / "credentials").write_text(
        "[mine]\naws_access_key_id = tests\naws_secret_access_key = very-secret-key\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert cli("run", source, "--out", tmp_path / "run", *RUN, "--json").json["committed"] == 3


def test_a_source_that_is_gone_is_no_matter_once_it_was_read(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("g/a.jsonl", lines("one", 30))
    command: Sequence[Any] = ("run", bucket.url("g"), "--out", tmp_path / "run", "--index", "none", "--dense", "fake:8")
    cli(*command)
    bucket.delete("g/a.jsonl")
    assert cli(*command, "--dense", "fake:16", "--json").json["committed"] == 30


@pytest.mark.parametrize("with_ids", [True, False], ids=["with ids", "without ids"])
def test_shards_fetch_their_own_bytes_of_a_file_of_lines(
    cli: Any, bucket: Bucket, tmp_path: Path, with_ids: bool
) -> None:
    """What is before a part is not read, so its rejects are counted from the part's first byte, also after the merge. Only the
    ids of records without one need all lines."""
    rows = [json.dumps(({"id": f"c{n}"} if with_ids else {}) | {"text": f"{n} " + "x" * 40_000}) for n in range(600)]
    rows[400], rows[420] = "no json", rows[420] if with_ids else rows[20]
    source, out = bucket.put(f"big-{with_ids}/c.jsonl", "".join(f"{row}\n" for row in rows).encode()), tmp_path / "run"
    size, mib = sum(len(row) + 1 for row in rows), 1 << 20
    cuts = [size * index // 4 for index in range(5)]
    for index in range(4):
        bucket.proxy.ranges.clear()
        cli("run", source, "--out", out, *RUN, "--shard", f"{index}/4", code=3 if index == 2 else 0)
        beyond = [(first, last) for path, first, last in bucket.proxy.ranges if "c.jsonl" in path and last > mib]
        assert beyond
        assert all(last <= cuts[index + 1] + 5 * mib for _, last in beyond)
        if with_ids:
            assert all(cuts[index] - mib <= first for first, _ in beyond)
    cli("merge", out, code=3)
    run = embedfleet.open_run(out)
    wanted = [json.loads(row)["text"] for row in rows if row != "no json"]
    assert run.chunks.column("text").to_pylist() == wanted
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row) + 1)
    first_of = [next(n for n, start in enumerate(starts) if start >= cut) for cut in cuts[:4]]
    assert run.ids == [f"c{n}" if with_ids else f"c.jsonl#{n + 1}" for n in range(600) if n != 400]
    (reject,) = run.quarantine
    assert (reject["file"], reject["from_byte"], reject["record"]) == ("c.jsonl", cuts[2], 401 - first_of[2])
    cli("verify", out)
