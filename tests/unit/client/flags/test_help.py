"""The help of each command: panels, examples, and the flags of the output."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from embedfleet.client.cli.app import app
from embedfleet.client.cli.run import run_command
from embedfleet.client.flags.examples import EXAMPLES
from embedfleet.client.flags.panels import PANELS, flag_of
from embedfleet.client.output.messages import OutputSettings, configure, messages

GROUP: Any = typer.main.get_command(app)


def commands(group: Any = GROUP, name: str = "") -> dict[str, Any]:
    """Every command by its name, those of a group such as `models` too."""
    found = {name: group}
    for inner, command in getattr(group, "commands", {}).items():
        found |= commands(command, f"{name} {inner}".strip())
    return found


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_COLOR", "")
    yield
    configure(OutputSettings())


@pytest.mark.parametrize("name", commands())
def test_each_command_has_two_examples_that_it_takes(name: str) -> None:
    examples = EXAMPLES[name]
    assert len(examples) == 2
    for example in examples:
        program, *words = shlex.split(example.command.replace("\\\n", ""))
        assert program == "embedfleet"
        assert words[: len(name.split())] == name.split()
        group: Any = GROUP
        while words and words[0] in getattr(group, "commands", {}):
            group = group.commands[words.pop(0)]
        group.make_context(name, words, resilient_parsing=True)  # raises for an unknown flag


def test_examples_are_for_commands_that_are_there() -> None:
    assert set(EXAMPLES) <= set(commands())


@pytest.mark.parametrize("name", PANELS)
def test_each_panel_names_flags_that_are_there_once(name: str) -> None:
    flags = [flag for flags in PANELS[name].values() for flag in flags]
    assert len(flags) == len(set(flags))
    assert set(flags) <= {flag_of(option) for option in commands()[name].params}


@pytest.mark.parametrize("name", commands())
def test_the_help_is_readable_in_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        app([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text.replace("id, _id, …", ""), "nothing is cut off"
    lines = [line.strip() for line in text.splitlines()]
    assert all(line.strip() in lines for one in EXAMPLES[name] for line in one.command.splitlines())


def test_the_panels_of_run_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        app(["run", "--help"])
    titles = [
        line.split("─ ")[1].split(" ─")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("╭─ ")
    ]
    assert titles == ["Arguments", "Options", *PANELS["run"], "Output"]


def test_a_command_line_sets_how_messages_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_command, "run", lambda _request: 0)
    log = tmp_path / "log"
    words = ["run", "-", "--out", str(tmp_path / "out"), "--dense", "fake:8"]

    def settings(*more: str) -> OutputSettings:
        with pytest.raises(SystemExit, match="0"):
            app([*words, *more])
        return messages().settings

    assert settings() == OutputSettings()
    asked = settings("-q", "-v", "--log-file", str(log), "--progress", "json")
    assert asked == OutputSettings(quiet=True, verbose=True, log_file=log, progress="json")
    monkeypatch.setenv("EMBEDFLEET_RUN_PROGRESS", "plain")
    assert settings() == OutputSettings(progress="plain")
    (tmp_path / "run.toml").write_text('progress = "none"\nquiet = true\n')
    monkeypatch.delenv("EMBEDFLEET_RUN_PROGRESS")
    assert settings("--config", str(tmp_path / "run.toml")) == OutputSettings(quiet=True, progress="none")
    assert os.environ["NO_COLOR"] == ""
    assert settings("--no-color").no_color
    assert os.environ["NO_COLOR"] == "1"


def test_a_group_takes_the_flags_of_the_output_too() -> None:
    for words in (["models", "--no-color", "--json"], ["models", "--no-color", "pull", "--help"]):
        os.environ["NO_COLOR"] = ""
        with pytest.raises(SystemExit, match="0"):
            app(words)
        assert os.environ["NO_COLOR"] == "1"


def test_flags_of_the_output_can_be_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "-", "--out", str(tmp_path / "out"), "--dense", "fake:8", "--progress", "json", "-q"]
    with pytest.raises(SystemExit, match="0"):
        app([*words, "--write-config"])
    written = capsys.readouterr().out.splitlines()
    assert {'progress = "json"', "quiet = true"} <= set(written)


def test_an_unknown_form_of_progress_is_answered_with_the_forms(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        app(["upload", "run", "--url", "http://localhost:1", "--progress", "x"])
    assert "'x' is not one of 'auto', 'bar', 'plain', 'json', 'none'" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )
