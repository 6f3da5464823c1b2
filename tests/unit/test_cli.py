"""What the commands refuse before they do anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.cli import app, export, search, upload
from embedfleet.client.query_encoder import TIMEOUT
from embedfleet.protocol.errors import UsageError


def test_a_flag_that_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--collection ' ': is empty"):
        upload(tmp_path, "http://localhost:6333", " ")
    with pytest.raises(UsageError, match="--format '': names nothing"):
        export(tmp_path, [""])
    with pytest.raises(UsageError, match="--signals ',': names nothing"):
        search(tmp_path, "box", signals=[","])


def test_a_search_takes_its_time_and_a_rerankers_code_from_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def found(*_: Any, **how: Any) -> list[Any]:
        given.update(how)
        return []

    monkeypatch.setattr("embedfleet.client.search.search", found)
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
