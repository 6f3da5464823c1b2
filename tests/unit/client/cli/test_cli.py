"""What the commands refuse before they do anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.cli import daemons
from embedfleet.client.cli.app import app, export, search, upload
from embedfleet.client.cli.run import run_command
from embedfleet.client.cli.run.request import RunRequest
from embedfleet.client.options.retrieval_options import build_plan
from embedfleet.client.options.spec_builder import build_spec
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.run_directory.reader import open_run
from embedfleet.client.search.hybrid import search as find
from embedfleet.client.search.query_models import TIMEOUT
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.errors import RunDirectoryError, SourceError, UsageError
from embedfleet.protocol.source.corpus import survey
from embedfleet.protocol.wire.run_options import RunOptions


def test_a_flag_that_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--collection ' ': is empty"):
        upload(tmp_path, "http://localhost:6333", " ")
    with pytest.raises(UsageError, match="--format '': names nothing"):
        export(tmp_path, [""])
    with pytest.raises(UsageError, match="--signals ',': names nothing"):
        search(tmp_path, ["box"], signals=[","])


NO_PATH = (
    ("--out", ["run", "-", "--out", "", "--dense", "fake:8"]),
    ("--queries", ["run", "-", "--out", "new", "--dense", "fake:8", "--queries", ""]),
    ("--qrels", ["run", "-", "--out", "new", "--dense", "fake:8", "--queries", "q.jsonl", "--qrels", ""]),
    *(("DIR", [name, "", *more]) for name, more in {"verify": [], "info": [], "export": [], "search": ["box"]}.items()),
    ("DIR", ["upload", "", "--url", "http://localhost:6333"]),
)


@pytest.mark.parametrize(("flag", "words"), NO_PATH)
def test_no_path_at_all_is_not_the_folder_one_is_in(
    flag: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        app(words)
    said = " ".join(capsys.readouterr().err.split())
    assert (end.value.code, list(tmp_path.iterdir())) == (2, [])
    assert f"Invalid value for '{flag}': is empty; give a path" in said


@pytest.mark.parametrize("flag", ["--index", "--ensemble", "--store", "--dtype"])
def test_a_word_that_is_no_choice_is_answered_with_the_choices(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        app(["run", "-", "--out", "new", "--dense", "fake:8", flag, "x"])
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 2
    assert f"Invalid value for '{flag}': 'x' is not one of" in said


def test_no_path_at_all_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for read in (open_run, verify_run, describe_run, lambda path: find(path, "box")):
        with pytest.raises(RunDirectoryError, match="DIR '': is empty; give a path"):
            read("")
    with pytest.raises(SourceError, match="source '': is empty"):
        survey("")
    for queries, qrels in (("", None), (tmp_path / "q.jsonl", "")):
        (tmp_path / "q.jsonl").write_text("{}")
        spec = build_spec("-", dense=["fake:8"], sparse=[], multivector=[], heads=[])
        with pytest.raises(SourceError, match=r"--q[a-z]+ '': is empty; give a path"):
            build_plan(queries, qrels=qrels, rerank=None, candidates=10, top_k=10, spec=spec)


def test_how_a_run_is_carried_out_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunRequest] = []
    monkeypatch.setattr(run_command, "run", lambda request: asked.append(request) or 0)
    flags = (
        "--cpu-fallback",
        "--sparse-device",
        "cpu",
        "--batch-timeout",
        "5",
        "--load-timeout",
        "7",
        "--grace",
        "3",
        "--backend",
        "torch",
    )
    for more in ((), flags):
        with pytest.raises(SystemExit):
            app(["run", "-", "--out", str(tmp_path), "--dense", "fake:8", *more])
    plain, chosen = asked
    assert plain.options == RunOptions()
    assert chosen.options == RunOptions(
        cpu_fallback=True, sparse_device="cpu", batch_timeout=5, load_timeout=7, backend="torch"
    )
    assert (plain.grace, chosen.grace) == (25.0, 3.0)


def test_serve_drains_within_what_kubernetes_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(daemons, "_become", lambda _module, arguments: became.append(arguments) or 0)
    for more in ((), ("--grace", "100")):
        with pytest.raises(SystemExit):
            app(["serve", "--bind", "ipc:///tmp/fleet", *more])
    assert [arguments[1] for arguments in became] == ["--grace=25.0", "--grace=100.0"]


@pytest.mark.parametrize("seconds", ["nan", "-1"])
def test_a_time_to_wait_that_never_ends_is_refused(
    seconds: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is longer than NaN seconds."""
    monkeypatch.setattr(daemons, "_become", lambda _module, _arguments: 0)
    for command in (
        ("worker", "--connect", "ipc:///tmp/fleet", "--patience", seconds),
        ("serve", "--bind", "ipc:///tmp/fleet", "--grace", seconds),
        ("upload", "run", "--url", "http://localhost:1", "--wait", seconds),
    ):
        with pytest.raises(SystemExit, match="2"):
            app(list(command))
        assert command[-2] in capsys.readouterr().err


def test_a_search_takes_its_time_and_a_rerankers_code_from_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def found(_folder: Any, _query: Any, settings: Any, **how: Any) -> int:
        given.update(how, rerank=settings.rerank, trust_remote_code=settings.trust_remote_code)
        return 0

    monkeypatch.setattr("embedfleet.client.cli.search.search_command.search", found)
    app(["search", "run", "box", "--rerank", "m", "--timeout", "300", "--trust-remote-code"], standalone_mode=False)
    assert (given["rerank"], given["timeout"], given["trust_remote_code"]) == ("m", 300.0, True)
    app(["search", "run", "box"], standalone_mode=False)
    assert (given["rerank"], given["timeout"], given["trust_remote_code"]) == (None, TIMEOUT, False)


@pytest.mark.parametrize("command", ["run", "search", "verify", "export", "upload", "serve"])
def test_a_switch_has_no_type_in_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app([command, "--help"])
    switches = [line for line in capsys.readouterr().out.splitlines() if "<bool>" in line and "--help" not in line]
    assert switches == []


def test_ctrl_c_while_modules_are_imported_ends_without_a_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from embedfleet.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_python_dash_m_is_the_command() -> None:
    command = [sys.executable, "-m", "embedfleet", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("embedfleet ")
