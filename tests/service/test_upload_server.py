"""Against a real Qdrant server: `QDRANT_URL=http://localhost:6333 pytest tests/service/test_upload_server.py`.

QDRANT_GRPC_PORT (default 6334) says where it listens for gRPC, QDRANT_API_KEY is its key if it wants one.
"""

from __future__ import annotations

import json
import os
import runpy
import uuid

import numpy as np
import pytest

URL = os.environ.get("QDRANT_URL", "")
PORT = os.environ.get("QDRANT_GRPC_PORT", "6334")
KEY = ("--api-key-env", "QDRANT_API_KEY") if os.environ.get("QDRANT_API_KEY") else ()

pytestmark = pytest.mark.skipif(not URL, reason="QDRANT_URL names no server")


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(
        tmp_path / "run", sizes=(400, 300), quarantined=(4,), sparse_quarantined=(7,), dim=16, multivector=True
    ).write()


@pytest.fixture
def server():
    from embedfleet.client.upload.server import connect

    client = connect(URL, "QDRANT_API_KEY" if KEY else None, grpc_port=int(PORT))
    yield client
    client.close()


@pytest.fixture
def collection(server):
    name = f"embedfleet-test-{uuid.uuid4().hex[:12]}"
    yield name
    server.delete_collection(name)


def test_a_server_holds_the_same_numbers(files, run_files, cli, server, collection):
    from embedfleet.protocol.finished_run.done_run import open_done_run

    flags = ("--url", URL, "--collection", collection, "--grpc-port", PORT, *KEY, "--json")
    done = cli("upload", str(files.root), *flags, "--batch", "64", "--streams", "4").json
    assert (done["points"], done["new"]) == (700, 700)
    info = server.get_collection(collection)
    assert info.status.value == "green"
    assert info.config.optimizer_config.indexing_threshold != 0
    ours = {point.id: point for point in open_done_run(files.root).points()}
    for record in server.retrieve(collection, list(ours), with_vectors=True):
        mine = ours[record.id]
        assert record.payload == mine.payload
        assert record.vector.keys() == mine.vectors.keys()
        if run_files.DENSE in mine.vectors:
            assert np.allclose(record.vector[run_files.DENSE], mine.vectors[run_files.DENSE], atol=1e-6)
    again = cli("upload", str(files.root), *flags, "--no-grpc").json
    assert (again["points"], again["new"], again["present"]) == (700, 0, 700)


def test_another_schema_is_refused(files, run_files, cli, server, collection):
    from qdrant_client import models

    params = models.VectorParams(size=5, distance=models.Distance.COSINE)
    server.create_collection(collection, vectors_config={run_files.DENSE: params})
    flags = ("--url", URL, "--collection", collection, "--grpc-port", PORT, *KEY)
    assert "vector dense-fake" in cli("upload", str(files.root), *flags, code=2).error


def test_the_script_loads_the_same(files, cli, server, collection):
    cli("export", str(files.root), "--format", "upload-script")
    module = runpy.run_path(str(files.layout.export / "upload_to_qdrant.py"))
    assert module["load"](server, files.layout.export, collection) == 700
    assert json.loads((files.layout.export / "collection.json").read_bytes())["points"] == 700


def test_shards_become_one_collection(cli, server, collection, tmp_path):
    lines = [json.dumps({"id": f"c{row}", "text": f"text {row}"}) for row in range(300)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    out, models = tmp_path / "run", ("--dense", "fake:8", "--devices", "cpu")
    flags = ("--url", URL, "--collection", collection, "--grpc-port", PORT, *KEY)
    for index in range(3):
        cli("run", tmp_path / "corpus.jsonl", "--out", out, *models, "--shard", f"{index}/3")
        assert "--finish" in cli("upload", out, *flags, "--shard", f"{index}/3").err
    assert server.get_collection(collection).config.optimizer_config.indexing_threshold == 0
    done = cli("upload", out, *flags, "--finish", "--payload-index", "shard", "--json").json
    assert (done["points"], done["shards"], done["payload_indexes"]) == (300, 3, {"shard": "integer"})
    info = server.get_collection(collection)
    assert (info.status.value, list(info.payload_schema)) == ("green", ["shard"])
    assert info.config.optimizer_config.indexing_threshold != 0
