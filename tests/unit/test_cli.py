"""What the commands refuse before they do anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.client.cli import app, export, search, upload
from embedfleet.protocol.errors import UsageError


def test_a_flag_that_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--collection ' ': is empty"):
        upload(tmp_path, "http://localhost:6333", " ")
    with pytest.raises(UsageError, match="--format '': names nothing"):
        export(tmp_path, [""])
    with pytest.raises(UsageError, match="--signals ',': names nothing"):
        search(tmp_path, "box", signals=[","])


@pytest.mark.parametrize("command", ["run", "search", "verify", "export", "upload", "serve"])
def test_a_switch_has_no_type_in_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app([command, "--help"])
    switches = [line for line in capsys.readouterr().out.splitlines() if "<bool>" in line and "--help" not in line]
    assert switches == []
