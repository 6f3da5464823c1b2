"""Sources on web servers and on the hub: read by ranges, and the same rows as from a file here."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedfleet
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ..object_store.web import COMMIT, WebServer

RUN = ("--dense", "fake:8", "--index", "none")
LINES = b"".join(json.dumps({"id": f"r{n}", "text": f"row {n} " * 20}).encode() + b"\n" for n in range(20_000))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WebServer]:
    server = WebServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.close()


def _parquet(tmp_path: Path) -> bytes:
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["one", "two"]}), tmp_path / "x.parquet")
    return (tmp_path / "x.parquet").read_bytes()


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_of_a_web_server(cli: Any, web: WebServer, tmp_path: Path, tags: bool) -> None:
    web.files = {"/data/a b.jsonl": LINES, "/b.jsonl.gz": gzip.compress(LINES), "/c.parquet": _parquet(tmp_path)}
    web.tags, web.cut = tags, 3
    for name, rows in (("data/a%20b.jsonl", 20_000), ("b.jsonl.gz", 20_000), ("c.parquet", 2)):
        out = tmp_path / name.replace("/", "_")
        assert cli("run", f"{web.url}/{name}", "--out", out, *RUN, "--json").json["committed"] == rows
        assert (
            cli("run", f"{web.url}/{name}", "--out", out, *RUN, "--dense", "fake:4", "--json").json["committed"] == rows
        )
    assert embedfleet.open_run(tmp_path / "data_a%20b.jsonl").ids[-1] == "r19999"
    assert web.cut == 0
    found = embedfleet.Embedder(tmp_path / "e", dense="fake:8", index="none").load_chunks(f"{web.url}/c.parquet")
    assert (found.path, found.files, found.records) == (f"{web.url}/c.parquet", 1, 2)


READ_QRELS = """
import json, sys
from embedfleet.client.evaluation.qrels import read_qrels
from embedfleet.protocol.errors import SourceError
for address in sys.argv[1:]:
    try:
        print(json.dumps(read_qrels(address)))
    except SourceError as error:
        print(json.dumps(str(error)))
"""


def test_judgements_of_a_web_server_and_the_hub(web: WebServer) -> None:
    """In a process of its own: the hub's library reads the address of the hub as it is imported."""
    web.files = {"/qrels": b"q1\tc1\t1\n"}
    web.data_sets = {"owner/name": {"qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\tc2\t1\n"}}
    data_set = "hf://datasets/owner/name"
    addresses = [f"{web.url}/qrels", f"{data_set}/qrels/test.tsv", f"{web.url}/none", data_set]
    command = [sys.executable, "-c", READ_QRELS, *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    ours, theirs, missing, folder = map(json.loads, done.stdout.splitlines())
    assert (ours, theirs) == ({"q1": {"c1": 1}}, {"q1": {"c2": 1}})
    assert missing.startswith(f"--qrels {web.url}/none: there is no such file; give the address of one file")
    assert folder == f"--qrels {data_set}: is a folder; give a file"


def test_a_web_server_that_cannot_serve_it(cli: Any, web: WebServer, tmp_path: Path) -> None:
    def error(name: str) -> str:
        return cli("run", f"{web.url}/{name}", "--out", tmp_path / "run", *RUN, code=2).error

    web.files = {"/a.jsonl": LINES}
    assert "there is no such file; give the address of one file" in error("b.jsonl")
    assert "there is no such file" in error("")
    assert "what follows the ? may hold a key" in error("a.jsonl?token=x")
    web.ranges = False
    assert "the server sends no parts of files" in error("a.jsonl")
    assert not (tmp_path / "run").exists()


def test_a_data_set_of_the_hub(cli: Any, web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    web.data_sets = {"owner/name": {"data/a.jsonl": LINES, "data/b.parquet": _parquet(tmp_path), "README.md": b"#"}}
    web.cut = 2
    out = tmp_path / "run"
    done = cli("run", "hf://datasets/owner/name", "--out", out, *RUN, "--json")
    assert done.json["committed"] == 20_002
    assert "1 .md (README.md)" in done.err
    assert json.loads((out / "spec.json").read_bytes())["source"] == "hf://datasets/owner/name"
    assert {one["path"] for one in json.loads((out / "intake" / "source.json").read_bytes())} == {
        "data/a.jsonl",
        "data/b.parquet",
    }
    assert all(COMMIT in path for _, path, _ in web.requests if "/resolve/" in path)
    assert {key for method, path, key in web.requests if "/resolve/" in path} == {"Bearer hf_secret"}
    for path in out.rglob("*.json*"):
        assert b"hf_secret" not in path.read_bytes()
    one = cli("run", "hf://datasets/owner/name@v1/data/b.parquet", "--out", tmp_path / "one", *RUN, "--json")
    assert one.json["committed"] == 2


def test_a_hub_that_refuses(cli: Any, web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(name: str) -> str:
        return cli("run", f"hf://datasets/{name}", "--out", tmp_path / "run", *RUN, code=2).error

    web.data_sets = {"owner/name": {"a.jsonl": LINES}}
    assert "no such data set, or a private one; check its name, and run hf auth login" in error("owner/other")
    assert "has no such revision" in error("owner/name@v7")
    assert "no such file or folder in the data set" in error("owner/name/b.jsonl")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1:9 cannot be reached" in error("owner/name")
