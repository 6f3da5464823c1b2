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
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

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


def test_other_objects_and_shards_are_no_run(bucket: Bucket) -> None:
    bucket.put("corpus/a.jsonl", b"{}")
    read, other = findings(bucket.url("corpus"))
    assert (read.level, other.level, other.name) == ("ok", "problem", "no-run-directory")
    assert f"{bucket.url('corpus')}: has objects below it, but none of a run" in other.text
    assert not [method for method, _ in bucket.proxy.requests if method == "PUT"], "nothing is written beside them"
    bucket.put("sharded/fit.json", b"{}")
    url = bucket.url("sharded")
    assert url in findings(url)[-1].text
    assert "/tmp" not in findings(url)[-1].text


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
    assert found["facts"]["run"]["store"] == {"unreadable": ANY, "unwritable": "", "files": None}
    assert "spools of runs in object storage" in " ".join(one["text"] for one in found["findings"])
    assert list(tmp_path.iterdir()) == []
    assert "leave user and password out" in cli("doctor", "s3://user:key@bucket/run", code=2, cwd=tmp_path).error
