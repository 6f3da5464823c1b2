"""`embedfleet doctor` of addresses: whether they can be read and written, and the run there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from embedfleet.client.doctor.finding import Finding
from embedfleet.client.doctor.hub import Hub
from embedfleet.client.doctor.run_folder import measure_address, run_findings
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.object_storage.address import parse_address
from embedfleet.protocol.object_storage.lock_record import this_process
from embedfleet.protocol.run_directory.records.manifest import Counts, Manifest
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard

from ..object_store.proxy import Fault
from ..object_store.server import Bucket
from ..object_store.web import WebServer

SPEC = RunSpec(source="/c.jsonl", passes=(PassSpec(vector="dense-x", kind="dense", model="some/model"),))


def findings(url: str) -> list[Finding]:
    run, checks = measure_address(parse_address(url, "DIR"))
    refused = {one.vector: "some/model: is not on this host" for one in checks}
    return run_findings(run, refused, Hub("https://hub", offline="HF_HUB_OFFLINE=1"))


def test_a_place_for_a_run(bucket: Bucket) -> None:
    url = bucket.url("runs/new")
    assert [(one.level, one.text) for one in findings(url)] == [
        ("ok", f"{url} can be read and written"),
        ("ok", f"{url}: a run can be made there"),
    ]
    assert bucket.keys() == [], "what was put there is gone"


def test_a_run_and_the_process_that_writes_it(bucket: Bucket) -> None:
    url = bucket.url("runs/begun")
    bucket.put("runs/begun/spec.json", msgspec.json.encode(SPEC))
    bucket.put("runs/begun/.embedfleet.lock", msgspec.json.encode(this_process(180)))
    _, locked, model, run = findings(url)
    assert (locked.level, locked.name) == ("note", "run-locked")
    assert f"{url}/.embedfleet.lock: process {os.getpid()} on {os.uname().nodename} since " in locked.text
    assert (model.name, run.text) == ("run-model-offline", f"{url}: a run directory, not finished")
    dead = msgspec.structs.replace(this_process(180), started=time.time() - 1e6)
    bucket.put("runs/begun/.embedfleet.lock", msgspec.json.encode(dead))
    bucket.put("runs/begun/manifest.json", b"{}")
    assert [one.text for one in findings(url)][1:] == [f"{url}: a run directory, done"]


def test_what_a_killed_command_leaves_is_no_hindrance(bucket: Bucket) -> None:
    dead = msgspec.structs.replace(this_process(180), started=time.time() - 1e6)
    bucket.put("runs/killed/.embedfleet.lock", msgspec.json.encode(dead))
    assert findings(bucket.url("runs/killed"))[-1].text.endswith("/runs/killed: a run can be made there")


@pytest.mark.parametrize("place", ["", "shards/"])
def test_a_run_that_has_just_begun(bucket: Bucket, place: str) -> None:
    lock = bucket.put(f"runs/begun/{place}.embedfleet.lock", msgspec.json.encode(this_process(180)))
    store, locked, run = findings(url := bucket.url("runs/begun"))
    assert (store.text, run.level) == (f"{url} can be read and written", "ok")
    assert locked.name == "run-locked"
    assert locked.text.startswith(f"{lock}: process {os.getpid()} on {os.uname().nodename} since ")
    assert run.text == f"{url}: a run has just begun there"


def puts(bucket: Bucket) -> list[str]:
    return [path for method, path in bucket.proxy.requests if method == "PUT"]


def test_other_objects_are_no_run(bucket: Bucket) -> None:
    bucket.fail(Fault("refuse", "PUT", times=99))
    url = bucket.put("corpus/a.jsonl", b"{}").removesuffix("/a.jsonl")
    read, other = findings(url)
    assert (read.level, read.text) == ("ok", f"{url} can be read; writing was not tried")
    assert (other.level, other.name) == ("problem", "no-run-directory")
    assert f"{url}: has objects below it, but none of a run" in other.text
    assert puts(bucket) == [], "nothing is written beside them"


def test_an_object_at_the_address_is_a_source(bucket: Bucket) -> None:
    url = bucket.put("corpus/a.jsonl", b"{}")
    (source,) = findings(url)
    assert (source.level, source.text) == ("ok", f"{url}: 1 file can be read, as a source; no run can be there")
    assert puts(bucket) == []


def test_shards_that_are_not_merged(bucket: Bucket) -> None:
    url = bucket.url("sharded")
    bucket.put("sharded/fit.json", b"{}")
    store, fitted = findings(url)
    assert (store.text, fitted.level) == (f"{url} can be read and written", "ok")
    assert fitted.text.startswith(
        f"{url}: has the figures of `embedfleet fit`, and no shard has begun; run them next: "
    )
    assert f" --out {url} " in fitted.text
    bucket.put("sharded/shards.json", msgspec.json.encode(ShardsRecord(shards=4, spec=SPEC, files=())))
    lock = bucket.put("sharded/shards/.embedfleet.lock", msgspec.json.encode(this_process(180)))
    for index in range(3):
        spec = msgspec.structs.replace(SPEC, shard=Shard(index, 4), index="none")
        bucket.put(f"sharded/shards/0000{index}/spec.json", msgspec.json.encode(spec))
    counts = Counts(chunks=0, committed=0, quarantined=0, rejected=0, skipped_duplicates=0)
    done = msgspec.json.encode(Manifest(run="r", status="done", counts=counts, passes=()))
    bucket.put("sharded/shards/00000/manifest.json", done)
    bucket.put("sharded/shards/00001/.embedfleet.lock", msgspec.json.encode(this_process(180)))
    states = f"{url}: 1 of 4 shards done; running: 1; unfinished: 2; not begun: 3"
    store, locked, model, shards = findings(url)
    assert (locked.name, locked.text.startswith(f"{lock}: process {os.getpid()} ")) == ("run-locked", True)
    assert (model.name, shards.level) == ("run-model-offline", "ok")
    assert shards.text == f"{states}; a process runs them now"
    bucket.delete("sharded/shards/.embedfleet.lock")
    command = f"embedfleet run /c.jsonl --out {url} --shard 2/4, with the flags of the other shards"
    assert findings(url)[-1].text == f"{states}; next: {command}"
    bucket.fail(Fault("refuse", "PUT", "probe", times=99))
    assert findings(url)[0].name == "store-unwritable"
    bucket.put("sharded/shards.json", b"{")
    assert f"{url}/shards.json: damaged" in findings(url)[-1].text


@pytest.mark.parametrize(
    ("fault", "name", "text", "remedy"),
    [
        (Fault("refuse", "GET", "list-type", times=99), "unreadable", "cannot be read: permission denied", "ask for"),
        (Fault("refuse", "PUT", "probe", times=99), "unwritable", "can be read, not written: permission", "ask for"),
        (
            Fault("refuse", "PUT", "probe", times=99, code="InvalidAccessKeyId"),
            "unwritable",
            "the keys are refused (invalidaccesskeyid)",
            "set AWS_ACCESS_KEY_ID and ",
        ),
        (
            Fault("refuse", "GET", "list-type", times=99, status=301, code="PermanentRedirect"),
            "unreadable",
            "is in another region",
            "set AWS_REGION",
        ),
    ],
)
def test_a_store_that_refuses(bucket: Bucket, fault: Fault, name: str, text: str, remedy: str) -> None:
    bucket.fail(fault)
    found = findings(bucket.url("runs/new"))[0]
    assert (found.level, found.name) == ("problem", f"store-{name}")
    assert text in found.text
    assert found.remedy.startswith(remedy)


def test_addresses_that_can_be_no_run_directory(bucket: Bucket) -> None:
    with pytest.raises(RunDirectoryError, match="is a whole bucket; give a key in it"):
        findings(f"s3://{bucket.name}")


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


def test_a_source_of_a_web_server(web: WebServer) -> None:
    web.files = {"/a.jsonl": b"{}"}
    (there,) = findings(f"{web.url}/a.jsonl")
    assert (there.level, there.text) == (
        "ok",
        f"{web.url}/a.jsonl: 1 file can be read, as a source; no run can be there",
    )
    (gone,) = findings(f"{web.url}/b.jsonl")
    assert (gone.level, gone.name) == ("problem", "store-unreadable")
    assert gone.text == f"{web.url}/b.jsonl cannot be read: there is no such file"
    assert gone.remedy.startswith("give the address of one file")


@pytest.mark.usefixtures("bucket")
def test_the_command(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    found = cli("doctor", "s3://no-such-bucket/run", "--json", code=1, cwd=tmp_path).json
    (store,) = (one for one in found["findings"] if one["topic"] == "store")
    assert (store["level"], store["name"]) == ("problem", "store-unreadable")
    assert store["text"] == "s3://no-such-bucket/run cannot be read: the bucket no-such-bucket does not exist"
    assert store["remedy"].startswith("check its name")
    assert found["facts"]["run"]["store"] == {"unreadable": ANY, "unwritable": "", "written": False, "files": None}
    assert "spools of runs in object storage" in " ".join(one["text"] for one in found["findings"])
    assert list(tmp_path.iterdir()) == []
    assert "leave user and password out" in cli("doctor", "s3://user:key@bucket/run", code=2, cwd=tmp_path).error
