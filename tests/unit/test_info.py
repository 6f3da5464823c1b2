from __future__ import annotations

import json
from typing import Any

import msgspec
from embedfleet.client.info import describe_run
from embedfleet.protocol.spec import RunSpec


def test_a_local_model_is_shown_with_its_folder(run_files: Any, tmp_path: Any) -> None:
    files = run_files.RunFiles(tmp_path / "run", index="none").write()
    spec: RunSpec = files.spec
    dense = msgspec.structs.replace(spec.passes[0], model="/models/b/m")
    files.layout.spec.write_bytes(msgspec.json.encode(msgspec.structs.replace(spec, passes=(dense, spec.passes[1]))))
    files.layout.pass_file(run_files.DENSE).write_text(json.dumps({"model": "m"}))
    files.layout.pass_file(run_files.SPARSE).write_text(json.dumps({"model": "Qdrant/bm25"}))
    assert [one["model"] for one in describe_run(files.root)["vectors"]] == ["/models/b/m", "Qdrant/bm25"]
