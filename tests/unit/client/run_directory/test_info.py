from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.run_directory.info import describe_run
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec


def test_a_local_model_is_shown_with_its_folder(run_files: Any, tmp_path: Any) -> None:
    files = run_files.RunFiles(tmp_path / "run", index="none").write()
    spec: RunSpec = files.spec
    dense = msgspec.structs.replace(spec.passes[0], model="/models/b/m")
    files.layout.spec.write_bytes(msgspec.json.encode(msgspec.structs.replace(spec, passes=(dense, spec.passes[1]))))
    files.layout.pass_file(run_files.DENSE).write_text(json.dumps({"model": "m"}))
    files.layout.pass_file(run_files.SPARSE).write_text(json.dumps({"model": "Qdrant/bm25"}))
    assert [one["model"] for one in describe_run(files.root)["vectors"]] == ["/models/b/m", "Qdrant/bm25"]


def test_what_came_after_the_last_chunk_is_counted(run_files: Any, tmp_path: Any) -> None:
    """The footers of chunk segments know only what came before a chunk; the intake's record has all of it."""
    files = run_files.RunFiles(tmp_path / "run", index="none").write()
    counted = json.loads(files.layout.intake.read_bytes())
    before = describe_run(files.root)["chunks"]
    more = {"rejected": before["rejected"] + 3, "duplicates": before["duplicates"] + 5, "notes": {"id_shared": 1}}
    files.layout.intake.write_text(json.dumps(counted | more))
    found = describe_run(files.root)["chunks"]
    assert {name: found[name] for name in more} == more
    files.layout.intake.unlink()
    assert describe_run(files.root)["chunks"] == before | {"intake_done": False, "notes": {}}


@pytest.mark.parametrize("folder", ["intake", "chunks"])
def test_records_that_were_all_rejected_are_counted(tmp_path: Path, folder: str) -> None:
    """In `chunks` by earlier versions."""
    out = tmp_path / "run"
    (out / folder).mkdir(parents=True)
    spec = RunSpec(source="c.jsonl", passes=(PassSpec(vector="dense-x", kind="dense", model="fake:4"),))
    (out / "spec.json").write_bytes(msgspec.json.encode(spec))
    (out / folder / "00000.rejected.jsonl").write_text('{"record":1}\n{"record":2}\n')
    assert describe_run(out)["chunks"]["rejected"] == 2
