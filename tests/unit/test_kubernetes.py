"""The manifests in `deploy/kubernetes`: by the schema of Kubernetes, and what their shell does with signals and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml
from embedfleet.client.cli.app import app

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
VERSION = "1.33"
"""The first in which all that the manifests use is stable."""


def job(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text())


def shell_of(name: str) -> list[str]:
    """What the container of a job runs."""
    (container,) = job(name)["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container.get("args", [])]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a command `embedfleet` that notes its words, waits if it is told to, and ends with $CODE."""
    program = tmp_path / "embedfleet"
    program.write_text(
        '#!/bin/sh\necho "$@" > "$NOTES"\ntrap "exit 143" TERM\n'
        'while [ -n "$WAIT" ]; do sleep 0.05; done\nexit "${CODE:-0}"\n'
    )
    program.chmod(0o755)
    return tmp_path


def environment(stand_in: Path, **more: str) -> dict[str, str]:
    path = f"{stand_in}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "NOTES": str(stand_in / "notes"), "JOB_COMPLETION_INDEX": "17"} | more


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_they_are_of_the_schema(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_a_field_that_there_is_not_would_be_found() -> None:
    broken = job("shards")
    broken["spec"]["completionsMode"] = broken["spec"].pop("completionMode")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSION, strict=True)


@pytest.mark.parametrize(("code", "found"), [(0, 0), (3, 0), (2, 2), (1, 1)])
@pytest.mark.parametrize("name", ["shards", "merge"])
def test_records_in_quarantine_are_no_failure(stand_in: Path, name: str, code: int, found: int) -> None:
    done = subprocess.run(shell_of(name), env=environment(stand_in, CODE=str(code)), timeout=30, check=False)
    assert bool(done.returncode) == bool(found)
    if name == "shards":  # its codes decide whether another attempt helps
        assert done.returncode == found
        assert "--shard 17/64" in (stand_in / "notes").read_text()


@pytest.mark.parametrize("name", ["fit", "shards", "merge"])
def test_the_command_line_takes_their_flags(stand_in: Path, name: str) -> None:
    subprocess.run(shell_of(name), env=environment(stand_in), timeout=30, check=True)
    command, *words = (stand_in / "notes").read_text().split()
    commands: Any = typer.main.get_command(app)
    assert commands.commands[command].make_context(command, words).params


def test_the_signal_of_an_eviction_reaches_the_command(stand_in: Path) -> None:
    process = subprocess.Popen(shell_of("shards"), env=environment(stand_in, WAIT="1"))
    try:
        deadline = time.monotonic() + 20
        while not (stand_in / "notes").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    finally:
        process.kill()
        process.wait()


def test_the_count_of_shards_is_that_of_the_job() -> None:
    spec = job("shards")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert f'"$JOB_COMPLETION_INDEX/{spec["completions"]}"' in shell_of("shards")[-1]


def test_no_exit_code_of_one_pod_ends_the_whole_job() -> None:
    spec = job("shards")["spec"]
    assert {one["action"] for one in spec["podFailurePolicy"]["rules"]} == {"Ignore"}, (
        "2 may pass: a busy store, a lock"
    )
    assert spec["backoffLimitPerIndex"] > 0
