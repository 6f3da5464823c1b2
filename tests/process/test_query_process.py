"""`python -m embedfleet.worker.query`, with the test as the search that asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

SECONDS = 60


class QueryProcess:
    """The process, and lines to and from it."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "embedfleet.worker.query"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
        )

    def ask(self, line: bytes) -> Any:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(line + b"\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def query(self, model: str, *texts: str, kind: str = "dense", number: int = 0) -> Any:
        spec = {"vector": "v", "kind": kind, "model": model}
        return self.ask(
            json.dumps({"pass": spec, "fingerprint": None, "texts": list(texts), "number": number}).encode()
        )


@pytest.fixture
def process() -> Iterator[QueryProcess]:
    made = QueryProcess()
    with made.child:
        yield made
        made.child.kill()


def test_request_after_request_is_answered_and_a_bad_one_between_in_one_line(process: QueryProcess) -> None:
    first = process.query("fake:4", "one text", "another", number=1)
    assert (first["number"], len(first["vectors"]), len(first["vectors"][0])) == (1, 2, 4)
    assert first["load_seconds"] > 0
    for bad in (b"nonsense", b"{}", b'{"pass": 3}', b"\xff", b""):
        assert set(process.ask(bad)) == {"error"}
    refused = process.query("/not/there", "x", number=2)
    assert (refused["number"], refused["error"]["kind"]) == (2, "ModelError")
    assert "\n" not in refused["error"]["message"]
    assert process.query("fake:4", "one text", "another", number=3)["vectors"] == first["vectors"]
    assert process.query("fake:500", "one text", kind="sparse")["sparse"][0]["indices"]
    out, err = process.child.communicate(timeout=SECONDS)  # closes its standard input
    assert (out, err, process.child.returncode) == (b"", b"", 0)


def test_bm25_needs_no_model(process: QueryProcess) -> None:
    pytest.importorskip("qdrant_edge")
    (found,) = process.query("bm25", "two foxes", kind="bm25")["sparse"]
    assert found["values"] == [1.0, 1.0]
