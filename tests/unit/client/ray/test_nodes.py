"""What must hold of a node before it gets work, and of the flags."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from embedfleet.client.options.shard_flags import check_engine
from embedfleet.client.ray.library import joined, load_ray
from embedfleet.client.ray.nodes import Needs, Node, NodeFacts, check_nodes, needs_of, problem_of, usable
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.version import __version__

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
GOOD = NodeFacts(python=PYTHON, embedfleet=__version__, gpus=8)
NEEDS = Needs("/data/c.jsonl", "/data/out", gpus=True, real=True)
CPU_NODE, GPU_NODE = Node("c" * 8, "cpu-node", 0.0, 16.0), Node("g" * 8, "gpu-node", 8.0, 64.0)


def spec(*models: str, kind: str = "dense") -> RunSpec:
    passes = [PassSpec(vector=f"v{number}", kind=kind, model=model) for number, model in enumerate(models)]  # type: ignore[arg-type]
    return RunSpec(source="/data/c.jsonl", passes=tuple(passes))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (replace(GOOD, error="no answer within 60 s"), "no task runs there (no answer within 60 s)"),
        (replace(GOOD, embedfleet=""), f"not installed there: pip install 'embedfleet[ray]=={__version__}'"),
        (replace(GOOD, embedfleet="0.0.9"), f"has embedfleet 0.0.9, and this is {__version__}: pip install"),
        (replace(GOOD, python="3.9"), f"has Python 3.9, and this is {PYTHON}: use one version"),
        (replace(GOOD, gpus=0), "the NVIDIA driver shows none"),
        (replace(GOOD, source="No such file or directory"), "cannot read the source /data/c.jsonl"),
        (replace(GOOD, store="--out s3://b/k: no keys were found; set"), "--out s3://b/k: no keys were found; set"),
        (replace(GOOD, folder="Permission denied"), "--out /data/out is not the same folder there (Permission denied)"),
    ],
)
def test_each_problem_has_its_remedy(facts: NodeFacts, message: str) -> None:
    assert message in problem_of(facts, NEEDS)


def test_a_good_node_and_one_whose_gpus_are_only_declared() -> None:
    assert problem_of(GOOD, NEEDS) == ""
    assert problem_of(replace(GOOD, gpus=0), replace(NEEDS, real=False)) == ""


def test_every_node_with_a_problem_is_named_once() -> None:
    old = replace(GOOD, embedfleet="0.0.9")
    with pytest.raises(UsageError) as caught:
        check_nodes([(CPU_NODE, old), (GPU_NODE, replace(GOOD, gpus=0)), (replace(CPU_NODE, name="third"), old)], NEEDS)
    assert str(caught.value).startswith("--on ray: nodes cpu-node, third: has embedfleet 0.0.9")
    assert "; node gpu-node: declares GPUs" in str(caught.value)
    check_nodes([(GPU_NODE, GOOD)], NEEDS)


def test_gpus_are_for_models_that_take_them() -> None:
    both = [CPU_NODE, GPU_NODE]
    assert needs_of(spec("bge-m3"), "/out", None, both) == Needs("/data/c.jsonl", "/out", gpus=True, real=True)
    assert usable(both, NEEDS) == [GPU_NODE]
    assert not needs_of(spec("bge-m3"), "/out", "cpu:2", both).gpus
    assert not needs_of(spec("bm25", kind="bm25"), "/out", None, both).gpus
    on_cpus = needs_of(spec("fake:8"), "/out", None, [CPU_NODE])
    assert (on_cpus.gpus, usable(both, on_cpus)) == (False, both)
    assert CPU_NODE.share(gpus=False) == {"CPU": 16.0}
    assert GPU_NODE.share(gpus=True) == {"GPU": 8.0}
    for devices, model in ((None, "bge-m3"), ("cuda:0", "fake:8")):
        with pytest.raises(UsageError, match="no node of the cluster has a GPU, and v0 would take one"):
            needs_of(spec(model), "/out", devices, [CPU_NODE])


def test_flags_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="--ray-address a:1: names a cluster for --on ray"):
        check_engine(None, "a:1", None, spec("fake:8"))
    with pytest.raises(UsageError, match="--shard 0/2 is one of them"):
        check_engine("ray", None, "0/2", spec("fake:8"))
    check_engine("ray", "a:1", None, spec("fake:8"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://10.0.0.1:10001", "it runs on a host of the cluster"),
        ("auto", "as in 10.0.0.1:6379"),
        ("a:99999", "as in 10.0.0.1:6379"),
        ("127.0.0.1:1", "nothing answers there .*; start one with `ray start --head`"),
    ],
)
def test_an_address_without_a_cluster(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfleet.client.ray.library.import_module", lambda _name: None)
    with pytest.raises(UsageError, match=message), joined(address):
        pass


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'embedfleet\[ray\]'"):
        load_ray()
