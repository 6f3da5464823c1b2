"""The examples and the unit file as their readers use them."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

ROOT = Path(__file__).parents[2]


def read_vectors(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "examples" / "read_vectors.py", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_neighbours_are_read_also_of_heads(run_files: Any, tmp_path: Path) -> None:
    files = run_files.RunFiles(tmp_path / "run", sizes=(6,)).write()
    before = read_vectors(files.root, "c2").stdout
    assert len(before.splitlines()) == 5
    heads = PassSpec(vector="heads-fake", kind="bge-m3", model="fake:4")
    files.layout.spec.write_bytes(msgspec.json.encode(RunSpec(source="/corpus.jsonl", passes=(heads,))))
    assert "dense-fake" in [output.vector for output in heads.outputs]
    assert read_vectors(files.root, "c2").stdout == before


def test_what_is_not_there_is_one_line(run_files: Any, tmp_path: Path) -> None:
    files = run_files.RunFiles(tmp_path / "run", sizes=(6,)).write()
    done = read_vectors(files.root, "nobody")
    assert (done.returncode, done.stderr) == (
        1,
        f"{files.root}: no chunk has the id 'nobody'; {files.root}/chunks has the ids\n",
    )
    sparse = RunSpec(source="/corpus.jsonl", passes=files.spec.passes[1:])
    files.layout.spec.write_bytes(msgspec.json.encode(sparse))
    done = read_vectors(files.root)
    assert (done.returncode, done.stderr) == (1, f"{files.root}: no dense vector in it; it has sparse-bm25\n")


def test_the_table_of_examples_has_the_arguments_that_they_take() -> None:
    told = (ROOT / "examples" / "README.md").read_text()
    for path in sorted((ROOT / "examples").glob("*.py")):
        usage = path.read_text().split(f"python examples/{path.name} ", 1)[1].split("\n", 1)[0]
        assert f"`{path.name} {usage}`" in told


def test_a_flag_that_cannot_be_used_is_not_tried_for_ever() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(ROOT / "deploy" / "embedfleet.service")
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"] == str(UsageError.exit_code)
