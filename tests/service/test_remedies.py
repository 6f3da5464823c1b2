"""Small files of a run that were damaged or lost: what `run` and `verify` say helps, and costs no more than it must."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

DAMAGED = b"\xff{"


@pytest.fixture(scope="module")
def made(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = tmp_path_factory.mktemp("remedies")
    source = folder / "corpus.jsonl"
    source.write_text("".join(f'{{"id": "c{row}", "text": "chunk {row}"}}\n' for row in range(20)) + "no json\n")
    models = ("--dense", "fake:8", "--dense", "fake:4", "--ensemble", "concat", "--index", "none", "--devices", "cpu")
    command = ("run", source, "--out", folder / "run", *models)
    cli(*command, code=3)
    return command


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("passes/dense-fake-8.json", DAMAGED, 2),
        ("passes/dense-fake-8.json", None, 1),
        ("passes/ensemble-concat.json", None, 1),
        ("passes/ensemble-concat.json", DAMAGED, 1),
        ("intake/00000.rejected.jsonl", DAMAGED, 1),
    ],
)
def test_the_remedy_that_is_named_helps(
    cli: Any, made: tuple[Any, ...], tmp_path: Path, name: str, content: bytes | None, code: int
) -> None:
    out = tmp_path / "run"
    shutil.copytree(made[3], out)
    command = (*made[:3], out, *made[4:])
    (out / name).unlink() if content is None else (out / name).write_bytes(content)

    problems = cli("verify", out, "--json", code=1).json["problems"]
    failed = cli(*command, code=code)
    remedy = re.compile(r"delete (?:it|(?:(\S+) and )?the folder (\S+))(?: yourself)? and run the same command again")
    found = remedy.search(failed.error)
    assert found is not None, failed.error
    assert [one for one in problems if "--restart" in one] == []
    assert remedy.search(problems[0]), problems

    if found[1]:
        assert found[1] == str(out / name)
        (out / name).unlink()
    shutil.rmtree(found[2]) if found[2] else (out / name).unlink()
    if not found[2]:
        cli(*command, code=1)  # they were missed: the next one reads them
    cli(*command, code=3)
    assert cli("verify", out, "--json").json["problems"] == []


@pytest.mark.parametrize(
    "name",
    [
        "chunks/00000.parquet",
        "intake/limits.json",
        "intake/counts.json",
        "vectors/dense-fake-4/00000.parquet",
        "manifest.json",
    ],
)
def test_of_what_is_lost_the_same_command_alone_is_the_remedy(
    cli: Any, made: tuple[Any, ...], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(made[3], out)
    (out / name).unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("vectors/dense-fake-8/*.parquet")}
    problems = cli("verify", out, "--json", code=1).json["problems"]
    assert any("run the same command again" in one for one in problems), problems
    assert [one for one in problems if "delete" in one or "--restart" in one] == []
    cli(*made[:3], out, *made[4:], code=3)
    assert (out / name).exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert cli("verify", out, "--json").json["problems"] == []


def test_a_run_without_a_collection_gets_one_by_the_command_that_search_names(
    cli: Any, made: tuple[Any, ...], tmp_path: Path
) -> None:
    pytest.importorskip("qdrant_edge")
    out = tmp_path / "run"
    shutil.copytree(made[3], out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("vectors/*/*.parquet")}
    assert "run with --index edge" in cli("search", out, "chunk", code=2).error
    cli(*(str(one) for one in (*made[:3], out, *made[4:])), "--index", "edge", code=3)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(cli("search", out, "chunk", "--json").json) == 10
    assert cli("verify", out, "--json").json["problems"] == []
