"""Which fit stands for a source, and the folders of several fits."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from embedfleet.client.shards import fit as module
from embedfleet.client.shards.fit import find_fit, fit
from embedfleet.client.shards.scratch import LOCK, fitting_folder
from embedfleet.protocol.run_directory.layout import FITTING, RunLayout
from embedfleet.protocol.run_directory.records.fit import TermCount, read_fit
from embedfleet.protocol.source.corpus import Corpus
from embedfleet.protocol.source.source_file import SourceFile
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    return RunLayout(tmp_path / "run")


def counted(layout: RunLayout, monkeypatch: pytest.MonkeyPatch, terms: int | None) -> RunSpec:
    """A fit whose processes find so many terms stands in the directory."""
    spec = RunSpec(source=str(layout.root.parent / "c.jsonl"), passes=(BM25,))
    parts = [TermCount(chunks=1, terms=terms), TermCount(chunks=2, terms=terms)]
    monkeypatch.setattr(module, "read_parts", lambda *_: parts)
    assert fit(layout, spec, lambda: False, lambda *_: None) == read_fit(layout)
    assert [path.name for path in layout.root.iterdir()] == ["fit.json"]
    return spec


def test_a_source_without_a_term_is_fitted(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = counted(layout, monkeypatch, 0)
    found = find_fit(layout, spec)
    assert found is not None
    assert (found.counts.terms, found.average_length) == (0, 1.0)


def test_a_fit_in_which_nobody_asked_for_terms_does_not_have_them(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = counted(layout, monkeypatch, None)
    assert find_fit(layout, spec) is None
    dense = PassSpec(vector="dense-fake-8", kind="dense", model="fake:8")
    assert find_fit(layout, msgspec.structs.replace(spec, passes=(dense,))) is not None


def test_a_fit_of_other_content_does_not_stand(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SourceFile(None, "c.jsonl", "jsonl", size=9, url="s3://bucket/c.jsonl", e_tag="one")
    monkeypatch.setattr(module, "survey", lambda *_: Corpus([file]))
    spec = counted(layout, monkeypatch, 5)
    assert find_fit(layout, spec) is not None
    changed = SourceFile(None, "c.jsonl", "jsonl", size=9, url="s3://bucket/c.jsonl", e_tag="two")
    monkeypatch.setattr(module, "survey", lambda *_: Corpus([changed]))
    assert find_fit(layout, spec) is None


def test_two_fits_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    with fitting_folder(tmp_path) as one:
        (one / "00000").mkdir()
        with fitting_folder(tmp_path) as other:
            assert one != other
            assert (one / "00000").is_dir()
        assert not other.exists()
        assert (one / "00000").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_fit_is_removed(tmp_path: Path) -> None:
    killed, new = tmp_path / f"{FITTING}.killed", tmp_path / f"{FITTING}.new"
    for folder in (killed, new):
        folder.mkdir()
    (killed / LOCK).touch()
    (killed / "00000.sample.jsonl").touch()
    with fitting_folder(tmp_path) as one:
        assert {path.name for path in tmp_path.iterdir()} == {one.name, new.name}, "a new one has no lock yet"
