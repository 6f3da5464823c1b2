"""`embedfleet models`, and `models pull` from a hub on this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from ..model_hub import SHA, Hub, serving

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and an empty cache in `tmp_path / "home"`."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as given:
        monkeypatch.setenv("HF_ENDPOINT", given.url)
        yield given


def test_the_catalogue(cli: Any, hub: Hub) -> None:
    found = {one["name"]: one for one in cli("models", "--json").json}
    assert found["bge-m3"]["fetch"] == "embedfleet models pull bge-m3"
    assert (found["bge-m3"]["here"], found["bge-m3"]["bytes"], found["bge-m3"]["license"]) == (
        "none",
        2_270_000_000,
        "mit",
    )
    assert b"bge-reranker-v2-m3" in cli("models").out
    assert hub.asked == [], "nothing is asked for"


@pytest.mark.usefixtures("hub")
def test_a_fetched_model_can_be_used_without_a_hub(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = cli("models", "pull", "good/whole", "--json").json
    assert (pulled["name"], pulled["revision"], pulled["fetched"]) == ("good/whole", SHA, True)
    assert pulled["flags"] == ["--dense"]
    files = sorted(path.name for path in Path(pulled["folder"]).rglob("*") if path.is_file())
    assert files == ["config.json", "model.safetensors", "tokenizer.json"], "what a run does not need is not fetched"
    assert pulled["bytes"] == sum((Path(pulled["folder"]) / name).stat().st_size for name in files)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = cli("models", "pull", "good/whole").out.decode()
    assert again.startswith("good/whole: already here, ")
    assert "use it with --dense good/whole" in again
    found = cli("doctor", "--json", code=ANY, cwd=tmp_path).json["findings"]
    (model,) = [one["text"] for one in found if one["text"].startswith("good/whole")]
    assert model.endswith(": usable with --dense")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("good/nothing", "model good/nothing: the hub has no such repository"),
        ("good/model@v9", "the hub has no revision 'v9'"),
        ("good/pickled", "has no safetensors weights"),
        ("bge-m2", "Did you mean bge-m3?"),
        ("", "MODEL '': give an alias"),
    ],
)
def test_what_cannot_be_fetched(cli: Any, hub: Hub, name: str, words: str) -> None:
    assert hub.url
    assert words in cli("models", "pull", name, code=2).error


def test_offline_it_says_so(cli: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = cli("models", "pull", "bge-m3", code=2).error
    assert "BAAI/bge-m3: not in the hub's cache, and HF_HUB_OFFLINE=1 forbids to fetch it; unset the variable" in error
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached" in cli("models", "pull", "bge-m3", code=2).error
    assert hub.asked == [], "nothing is asked for"
