"""Lines for people on standard error and in a log file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from embedfleet.client.output.console import message_console
from embedfleet.client.output.messages import Messages, OutputSettings, configure, messages
from embedfleet.protocol.errors import UsageError

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (INFO|ERROR) +\S")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    configure(OutputSettings())


def test_each_line_of_a_log_has_its_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    configure(OutputSettings(log_file=path))
    messages().say("two\nlines")
    messages().detail("a\x1b[31m detail")
    messages().fail("an\nerror")
    lines = path.read_text().splitlines()
    assert all(STAMP.match(line) for line in lines), lines
    assert [line.split(maxsplit=2)[2] for line in lines[1:]] == ["two", "lines", "a\\x1b[31m detail", "an", "error"]
    configure(OutputSettings(log_file=path))
    assert path.read_text().splitlines()[: len(lines)] == lines, "a later command appends"


def test_quiet_shows_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure(OutputSettings(quiet=True, verbose=True))
    messages().say("a line")
    messages().detail("a detail")
    message_console().print("a table")
    messages().fail("no room")
    assert capsys.readouterr().err == "embedfleet: error: no room\n"


def test_details_are_for_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose in (False, True):
        configure(OutputSettings(verbose=verbose))
        messages().detail("a detail")
    assert re.fullmatch(r"embedfleet: \d\d:\d\d:\d\d a detail\n", capsys.readouterr().err)


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("no/log", "No such file or directory")])
def test_a_log_file_that_cannot_be_opened(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(
        UsageError, match=f"--log-file {tmp_path / name}: {reason}; name a file in a folder that is there"
    ):
        Messages(OutputSettings(log_file=tmp_path / name))


def test_a_log_that_cannot_be_written_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure(OutputSettings(log_file=Path("/dev/full")))
    messages().say("a line")
    messages().say("another")
    said = capsys.readouterr().err
    assert said.count("--log-file /dev/full: [Errno 28] No space left on device; nothing more is written there") == 1
    assert said.endswith("embedfleet: a line\nembedfleet: another\n")
    messages().fail("no room")
    assert capsys.readouterr().err == "embedfleet: error: no room\n", "logging does not show it too"


def test_a_lost_log_is_told_as_json_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure(OutputSettings(log_file=Path("/dev/full"), progress="json"))
    messages().say("a line")
    lines = [msgspec.json.decode(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert [line.split()[0] for line in lines] == ["--log-file", "a"]


@pytest.mark.parametrize(
    ("path", "reason"), [("~nobody-here/log", "Could not determine home directory"), ("a\0b", "embedded null byte")]
)
def test_a_log_file_that_is_no_path(path: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{reason}; name a file in a folder that is there"):
        Messages(OutputSettings(log_file=Path(path)))


def test_results_are_shown_with_quiet_and_tables_of_progress_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    configure(OutputSettings(quiet=True))
    message_console(whole_tables=True).print("progress")
    message_console(whole_tables=True, result=True).print("evaluation")
    assert capsys.readouterr().err == "evaluation\n"
