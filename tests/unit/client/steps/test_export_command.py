from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.steps import export
from embedfleet.protocol.errors import EmbedfleetError


def test_a_message_that_holds_the_word_error_stays_whole(
    run_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"{tmp_path}: OSError: IO error: no space; make room and export again"
    child = SimpleNamespace(wait=lambda _seconds: 1, tail=lambda: f"embedfleet: error: {message}")

    @contextmanager
    def started(*_arguments: Any, **_options: Any) -> Iterator[Any]:
        yield child

    monkeypatch.setattr(export, "_started", started)
    files = run_files.RunFiles(tmp_path / "run").write()
    with pytest.raises(EmbedfleetError) as caught:
        export.export_quietly(files.root, [], None)
    assert str(caught.value) == message
