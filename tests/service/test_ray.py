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

from ..ray_cluster import RayCluster

pytestmark = pytest.mark.timeout(360)
"""On two busy cores the cluster alone takes half a minute to start."""

MODELS = ("--dense", "fake:8,delay_ms=120", "--index", "none")
SHARDS = 16


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Three nodes with GPUs, simulated."""
    made = RayCluster()
    yield made
    made.close()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"row {row} of the cluster's corpus" for row in range(48_000)]


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
    cluster.add_node(tmp_path / "old")
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
