"""The table of bad input through the real service: what is read is committed once or in quarantine once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run

from ..hostile_input import CASES, DONE, QUARANTINED, Case, line

VECTORS = ("dense-fake-16", "sparse-bm25")


def run(source: Path, out: Path) -> tuple[str | Path, ...]:
    return ("run", source, "--out", out, "--dense", "fake:16", "--sparse", "bm25", "--devices", "cpu:2", "--json")


@pytest.mark.parametrize("code", [DONE, QUARANTINED])
def test_all_cases_that_end_alike_in_one_corpus(cli: Any, fake_vectors: Any, tmp_path: Path, code: int) -> None:
    cases = {case.file: case for case in CASES if case.code == code}
    assert cases
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    for case in cases.values():
        (corpus / case.file).write_bytes(case.data())
    done = cli(*run(corpus, out), code=code)
    assert "Traceback" not in done.err
    committed = {id_: text for case in cases.values() for id_, text in case.committed.items()}
    rejected = {(case.file, record): reason for case in cases.values() for record, reason in case.rejected.items()}
    assert (done.json["chunks"], done.json["committed"], done.json["quarantined"]) == (
        sum(case.records for case in cases.values()),
        len(committed),
        len(rejected),
    )
    found = open_run(out)
    assert len(found.ids) == len(set(found.ids))
    assert dict(zip(found.ids, found.chunks.column("text").to_pylist(), strict=True)) == committed
    np.testing.assert_array_equal(
        found.vectors("dense-fake-16"), fake_vectors([committed[one] for one in found.ids], 16)
    )
    quarantine = [json.loads(one) for one in (out / "quarantine.jsonl").read_bytes().splitlines()]
    assert len(quarantine) == len(rejected)
    for one in quarantine:
        reason = rejected.pop((one["file"], one["record"])).replace("PATH", str(corpus / one["file"]))
        assert one["reason"].startswith(reason)
        assert len(json.dumps(one)) < 20_000
    assert not rejected
    report = cli("verify", out, "--json").json
    assert (report["ok"], report["points"]) == (True, len(committed))
    hits = cli("search", out, "alpha", "--top-k", "3", "--json").json  # the collection opens and can be read
    assert committed[hits[0]["id"]] == "alpha"


def test_a_file_of_which_nothing_can_be_read(cli: Any, tmp_path: Path) -> None:
    case: Case = next(case for case in CASES if case.name == "parquet cut short")
    source, out = tmp_path / case.file, tmp_path / "run"
    source.write_bytes(case.data())
    error = cli(*run(source, out)[:-1], code=2).error
    assert "not one record in it can be used (1 rejected)" in error
    assert f"{source} is damaged or cannot be read" in error
    assert not (out / "manifest.json").exists()
    (one,) = [json.loads(line) for line in (out / "quarantine.jsonl").read_bytes().splitlines()]
    assert one["reason"].startswith(f"{source} is damaged or cannot be read")


def test_a_folder_without_chunks_is_refused(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "readme.txt").write_text("nothing")
    error = cli(*run(tmp_path / "corpus", tmp_path / "run")[:-1], code=2).error
    assert "the folder holds no chunks" in error


def test_a_source_that_changed_is_refused_and_what_stands_stays(cli: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "c.jsonl", tmp_path / "run"
    data = b"".join(line(f"c{n}", f"text {n}") for n in range(50))
    source.write_bytes(data)
    first = cli(*run(source, out)).json
    source.write_bytes(data + line("more", "more"))
    error = cli(*run(source, out)[:-1], code=2).error
    assert "the source changed since its intake began" in error
    assert "--restart" in error
    assert first["committed"] == 50
    assert cli("verify", out, "--json").json["ok"] is True
    assert open_run(out).ids == [f"c{n}" for n in range(50)]
