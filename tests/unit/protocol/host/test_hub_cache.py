"""The hub's cache, from folders like those that its client makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.hosts.agent import _environment  # pyright: ignore[reportPrivateUsage] - what workers are given
from embedfleet.protocol.host.hub_cache import (
    cached_models,
    cached_names,
    find_cached,
    hub_cache,
    hub_home,
    offline_variable,
)
from embedfleet.protocol.wire.devices import Device

COMMIT = "c" * 40
VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "XDG_CACHE_HOME",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def cache(folder: Path, name: str, files: dict[str, int], *, main: bool = True) -> Path:
    """A model with files of these sizes, each a link to a blob."""
    model = folder / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / COMMIT
    for number, (path, size) in enumerate(files.items()):
        blob = model / "blobs" / str(number)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(bytes(size))
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / path).symlink_to(blob)
    if main:
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg", "HF_HOME": "~/hf"}, "~/hf/hub"),
        ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/older"}, "/older"),
        ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/older", "HF_HUB_CACHE": "$HOME/cache"}, "~/cache"),
    ],
)
def test_the_folder_is_the_clients_for_workers_too(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(folder).expanduser()
    given = _environment(Device(uuid="cpu-h-0", kind="cpu", name="cpu:0", memory=1, threads=1))
    assert (given["HF_HOME"], given["HF_HUB_CACHE"]) == (str(hub_home()), str(hub_cache()))


def test_models_with_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert cached_models() == []
    whole = cache(tmp_path, "a/whole", {"config.json": 10, "0_Transformer/model.safetensors": 1000})
    partly = cache(tmp_path, "b/partly--named", {"config.json": 7})
    cache(tmp_path, "c/other-revision", {"model.safetensors": 5}, main=False)
    (tmp_path / "models--d--empty").mkdir()
    (tmp_path / "datasets--e--f").mkdir()
    assert cached_names() == ["a/whole", "b/partly--named", "c/other-revision", "d/empty"]
    found = [(one.name, one.snapshot, one.has_weights, one.bytes) for one in cached_models()]
    assert found == [
        ("a/whole", whole, True, 1010),
        ("b/partly--named", partly, False, 7),
        ("c/other-revision", None, False, 5),
    ]
    assert find_cached("nobody/nothing") is None


def test_a_file_of_two_revisions_counts_once_and_a_dead_link_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = cache(tmp_path, "a/b", {"model.safetensors": 1000, "gone.safetensors": 1})
    (tmp_path / "models--a--b" / "blobs" / "1").unlink()
    other = snapshot.with_name("d" * 40)
    other.mkdir()
    (other / "model.safetensors").symlink_to(tmp_path / "models--a--b" / "blobs" / "0")
    found = find_cached("a/b")
    assert found is not None
    assert (found.has_weights, found.bytes) == (True, 1000)


def test_offline_is_what_the_client_takes_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offline_variable() == ""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert offline_variable() == ""
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "yes")
    assert offline_variable() == "TRANSFORMERS_OFFLINE=yes"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert offline_variable() == "HF_HUB_OFFLINE=1"
