"""docs/screens.md shows what the commands print, in 80 columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..forked_commands import ForkedCommands
from ..screens import PAGE, WIDTH, page
from .conftest import LIMIT

pytest.importorskip("qdrant_edge")
pytest.importorskip("ir_measures")


def test_the_page_of_the_screens_is_what_the_commands_show(
    forked: ForkedCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make docs` writes it anew."""
    for name in [one for one in os.environ if "EMBEDFLEET" in one]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")

    def run(words: Sequence[str], output: int, folder: Path) -> int:
        with open(os.devnull) as nothing:
            return forked.call(list(words), [nothing.fileno(), output, output], folder, LIMIT)

    assert page(run) == PAGE.read_text()


def test_every_screen_fits_into_80_columns() -> None:
    blocks = PAGE.read_text().split("```")[1::2]
    assert len(blocks) > 5
    assert [line for block in blocks for line in block.splitlines() if len(line) > WIDTH] == []
