"""Runs on a cluster of simulated nodes, and Encode under Ray Data: equal to one run, whatever happens to a node."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run

from ..object_store.server import Bucket, StoreServer
from ..ray_cluster import NODES, RayCluster

pytestmark = pytest.mark.timeout(360)
"""On two busy cores the cluster alone takes half a minute to start."""

MODELS = ("--dense", "fake:8,delay_ms=120", "--index", "none")
SHARDS = 16


@pytest.fixture(scope="module")
def cluster(store_server: StoreServer) -> Iterator[RayCluster]:
    """Three nodes with GPUs, simulated, that reach the object store."""
    made = RayCluster(store_server.environment)
    yield made
    made.close()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"row {row} of the cluster's corpus" for row in range(16_000)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, corpus_of: Callable[..., Path], texts: list[str]) -> Path:
    return corpus_of(tmp_path_factory.mktemp("source") / "c.jsonl", texts)


def on(cluster: RayCluster) -> tuple[str, ...]:
    return ("--on", "ray", "--ray-address", cluster.address)


def done_shards(out: Path) -> int:
    return len(list((out / "shards").glob("*/manifest.json")))


def test_a_node_is_removed_and_another_one_joins(
    cluster: RayCluster, start: Any, waiting: Any, source: Path, texts: list[str], fake_vectors: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = start("run", source, "--out", out, *MODELS, *on(cluster), "--shards", str(SHARDS), "--progress", "json")
    waiting.eventually(lambda: done_shards(out) >= 2, 120.0, "two shards")
    cluster.remove_node()
    cluster.add_node()
    command.wait(0)
    assert "was lost; shard" in command.err
    run = open_run(out)
    assert run.ids == [f"c{row}" for row in range(len(texts))]
    np.testing.assert_array_equal(run.vectors("dense-fake-8"), fake_vectors(texts, 8))
    assert done_shards(out) == SHARDS
    assert '"shards":{"count":16,"done":16' in command.err.replace(" ", "")


def test_ctrl_c_drains_the_nodes_and_the_same_command_resumes(
    cluster: RayCluster, start: Any, waiting: Any, source: Path, texts: list[str], fake_vectors: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("run", source, "--out", out, *MODELS, *on(cluster), "--shards", "6")
    command = start(*words)
    waiting.eventually(lambda: list((out / "shards").glob("*/chunks/*.parquet")), 120.0, "work")
    command.signal(signal.SIGINT)
    command.wait(130)
    assert "finishing what is in flight on" in command.err
    assert "resumes in" in command.err
    again = start(*words)
    again.wait(0)
    np.testing.assert_array_equal(open_run(out).vectors("dense-fake-8"), fake_vectors(texts, 8))


def test_what_cannot_be_run_is_refused_before_anything_is_written(
    cluster: RayCluster, start: Any, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for flags, message in (
        (("--dense", "fake:0"), "give the dimension"),
        (("--dense", "fake:8", "--limit", "5"), "--limit: counts the chunks of a whole source"),
        (("--dense", "bge-m3"), "declares GPUs to Ray, and the NVIDIA driver shows none"),
    ):
        command = start("run", source, "--out", out, *flags, *on(cluster))
        command.wait(2)
        assert message in command.err
        assert not out.exists()


def test_a_node_with_another_version_is_named(cluster: RayCluster, start: Any, source: Path, tmp_path: Path) -> None:
    (tmp_path / "old" / "embedfleet").mkdir(parents=True)
    (tmp_path / "old" / "embedfleet" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    cluster.add_node(PYTHONPATH=str(tmp_path / "old"))
    try:
        command = start("run", source, "--out", tmp_path / "run", *MODELS, *on(cluster))
        command.wait(2)
    finally:
        cluster.remove_node(-1)
    assert "error: --on ray: node " in command.err
    assert "has embedfleet 0.0.9, and this is" in command.err
    assert "pip install 'embedfleet[ray]==" in command.err
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_shards_ends_the_run_once(
    cluster: RayCluster, start: Any, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("--dense", "fake:8", "--devices", "cuda:7", "--index", "none")
    command = start("run", source, "--out", out, *words, *on(cluster), "--shards", "4")
    command.wait(2)
    errors = [line for line in command.err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "shard " in errors[0]
    assert "--devices cuda:7: no such GPU" in errors[0]


def table(run: Path | str) -> pa.Table:
    """Chunks and vectors of a run, in the order of its rows."""
    return pa.Table.from_batches(open_run(run).batches())


def stored_shards(bucket: Bucket) -> int:
    return sum(name.endswith("/manifest.json") for name in bucket.keys("run/shards"))


def test_in_object_storage_a_node_is_lost_and_its_shard_goes_on_elsewhere(
    cluster: RayCluster,
    start: Any,
    cli: Any,
    waiting: Any,
    bucket: Bucket,
    source: Path,
    tmp_path: Path,
) -> None:
    """Source and run are in the store. The merged run there is equal to one run."""
    there, out = bucket.put("corpus/c.jsonl", source.read_bytes()), bucket.url("run")
    models = "--dense", "fake:8,delay_ms=3000", "--sparse", "bm25"  # no node ends a shard before all have begun
    words = "run", there, "--out", out, *models, *on(cluster), "--shards", "8"
    command = start(*words, "--spool", tmp_path / "spools", "--progress", "json")

    def all_at_work() -> bool:
        names = bucket.keys("run/shards/")
        locked = {name.split("/")[2] for name in names if name.endswith("/.embedfleet.lock")}
        return len(locked) > NODES  # the lock of the command is beside them

    waiting.eventually(all_at_work, 120.0, "a shard of each node")
    bucket.proxy.requests.clear()
    cluster.remove_node()
    cluster.add_node()
    command.wait(0)
    listings = [path for _, path in bucket.proxy.requests if "list-type=2" in path and "shards%2F0" not in path]
    assert len(listings) == 3, (
        "the merge looks for locks, fetches, and compares; nothing else lists more than one shard"
    )
    assert "was lost; shard" in command.err
    assert "goes to another" in command.err
    assert '"shards":{"count":8,"done":8' in command.err.replace(" ", "")
    one = tmp_path / "one"
    cli("run", source, "--out", one, "--dense", "fake:8", "--sparse", "bm25", "--index", "none", "--devices", "cpu")
    assert table(out).equals(table(one))
    assert not [name for name in bucket.keys("run") if "/.embedfleet" in name]
    assert "very-secret-key" not in command.err
    assert all(b"very-secret-key" not in (bucket.get(name) or b"") for name in bucket.keys("run"))


def test_in_object_storage_the_same_command_resumes_after_ctrl_c(
    cluster: RayCluster, start: Any, waiting: Any, bucket: Bucket, source: Path, texts: list[str], fake_vectors: Any
) -> None:
    out = bucket.url("run")
    words = ("run", source, "--out", out, "--dense", "fake:8,delay_ms=120", *on(cluster), "--shards", "6")
    command = start(*words)
    waiting.eventually(lambda: stored_shards(bucket) >= 1, 120.0, "a shard")
    command.signal(signal.SIGINT)
    command.wait(130)
    assert f"resumes in {out}" in command.err
    assert not [name for name in bucket.keys("run") if "/.embedfleet" in name]
    done = stored_shards(bucket)
    again = start(*words)
    again.wait(0)
    assert f"{done} of 6 shards done before" in again.err
    np.testing.assert_array_equal(open_run(out).vectors("dense-fake-8"), fake_vectors(texts, 8))
    assert f"next: embedfleet verify {out}" in again.err


def test_a_store_that_cannot_be_used_is_refused_before_a_device_is_taken(
    cluster: RayCluster, cli: Any, bucket: Bucket, source: Path
) -> None:
    words = ("--dense", "fake:8", *on(cluster))
    error = cli("run", source, "--out", "s3://no-such-bucket/run", *words, code=2).error
    assert "--out s3://no-such-bucket/run: the bucket no-such-bucket does not exist; check its name" in error
    for variables, message in (
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no keys were found; set AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "127.0.0.1:9 cannot be reached; check the address, the network"),
    ):
        cluster.add_node(**variables)
        try:
            error = cli("run", source, "--out", bucket.url("run"), *words, code=2).error
        finally:
            cluster.remove_node(-1)
        assert "error: --on ray: node " in error
        assert message in error
    assert bucket.keys() == []


ENCODE = """
import sys
import ray
from embedfleet.ray import Encode
address, source, out, average = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
encoded = ray.data.read_parquet(source).map_batches(
    Encode,
    fn_constructor_kwargs=dict(dense="fake:8", sparse="bm25", multivector="fake:4", average_length=float(average)),
    batch_format="pyarrow",
    batch_size=250,
    num_gpus=1,
    num_cpus=0,
    concurrency=1,
)
encoded.write_parquet(out)
"""


def test_encode_under_ray_data_equals_a_run(cluster: RayCluster, cli: Any, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for part in range(3):
        rows = range(part * 400, part * 400 + 400)
        texts = [f"row {row} {'of many words ' * (row % 5)}" for row in rows]
        pq.write_table(pa.table({"id": [f"p{row}" for row in rows], "text": texts}), folder / f"{part}.parquet")
    run = tmp_path / "run"
    models = ("--dense", "fake:8", "--sparse", "bm25", "--multivector", "fake:4")
    cli("run", folder, "--out", run, *models, "--index", "none", "--devices", "cpu")
    average = json.loads((run / "passes" / "sparse-bm25.json").read_bytes())["settings"]["average_length"]
    script = tmp_path / "encode.py"
    script.write_text(ENCODE)
    command = [sys.executable, "-P", script, cluster.address, folder, tmp_path / "encoded", str(average)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = pq.read_table(tmp_path / "encoded").sort_by("id")
    expected = pa.Table.from_batches(open_run(run).batches()).sort_by("id")
    assert found["error"].null_count == found.num_rows == 1_200
    for name in ("dense-fake-8", "multivector-fake-4", "sparse-bm25.indices", "sparse-bm25.values"):
        assert found[name].to_pylist() == expected[name].to_pylist(), name
