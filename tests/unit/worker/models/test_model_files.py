"""What is said of a model that cannot be found."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.worker.models import locate
from huggingface_hub.errors import LocalEntryNotFoundError


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        ("dense", "bge-m33", r"--dense: model 'bge-m33' is not a folder, .* Did you mean bge-m3\? Known: .*nomic"),
        (
            "sparse",
            "bm52",
            r"--sparse: model 'bm52' is not a folder, .* Did you mean bm25\? For sparse weights give bm25, metadata, or",
        ),
        ("sparse", "metadta", r"Did you mean metadata\?"),
        ("rerank", "./typo", "--rerank: model './typo' is not a folder"),
        ("multivector", "/no/such", "--multivector: model '/no/such' is not a folder"),
    ],
)
def test_the_flag_is_named_and_a_likely_name(kind: Kind, model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        locate.find_model(PassSpec(vector="v", kind=kind, model=model))


def test_what_may_be_a_folder_or_a_hub_id_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(hub: str, _revision: str | None, *, offline: bool) -> None:
        if not offline:
            raise ModelError(f"model {hub}: the hub has no such repository")

    monkeypatch.setattr(locate, "_from_hub", nothing)
    said = "--rerank: no folder 'models/nope' is here, and model models/nope: the hub has no such repository"
    with pytest.raises(ModelError, match=said):
        locate.find_model(PassSpec(vector="v", kind="rerank", model="models/nope"))


def test_a_folder_without_a_model_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--heads: model .* has no config\.json"):
        locate.find_model(PassSpec(vector="v", kind="bge-m3", model=str(tmp_path)))


class TestPartOfASnapshot:
    """What transformers alone put into the hub's cache has no modules.json, without which it would be pooled otherwise."""

    def found(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *, known: object, hub_has: bool | None) -> list[str]:
        """What was asked of the hub, the folder that was chosen last; `hub_has` None: nobody answers."""
        asked: list[str] = []

        def snapshot(hub: str, _revision: str | None, *, offline: bool) -> locate.ModelFiles:
            asked.append("cache" if offline else "snapshot")
            return locate.ModelFiles(folder / ("part" if offline else "whole"), hub, "abc")

        def download(_hub: str, name: str, **_how: object) -> str:
            asked.append(name)
            if hub_has is None:
                raise LocalEntryNotFoundError("nobody answers")
            if not hub_has:
                raise FileNotFoundError("404")
            return name

        monkeypatch.setattr(locate, "_from_hub", snapshot)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: known)
        files, _ = locate.find_local(PassSpec(vector="v", kind="dense", model="owner/model"))
        assert files is not None
        return [*asked, files.folder.name]

    def test_is_completed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        found = self.found(monkeypatch, tmp_path, known=None, hub_has=True)
        assert found == ["cache", "modules.json", "snapshot", "whole"]

    @pytest.mark.parametrize("hub_has", [False, None])
    def test_is_used_where_the_hub_has_no_more(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub_has: bool | None
    ) -> None:
        assert self.found(monkeypatch, tmp_path, known=None, hub_has=hub_has) == ["cache", "modules.json", "part"]

    def test_is_known_to_be_all_that_there_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert self.found(monkeypatch, tmp_path, known=object(), hub_has=True) == ["cache", "part"]

    def test_has_its_modules(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "modules.json").write_text("[]")
        assert self.found(monkeypatch, tmp_path, known=None, hub_has=True) == ["cache", "part"]
