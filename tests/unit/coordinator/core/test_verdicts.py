"""The table of verdicts is the same in the code, in its docstring and in docs/reliability.md; each row is ever reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.core import verdicts
from embedfleet.coordinator.core.config import PoolConfig
from embedfleet.coordinator.core.verdicts import VERDICTS, Verdict

RELIABILITY = Path(__file__).parents[4] / "docs" / "reliability.md"


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("| batch |", "| device |"))]


@pytest.mark.parametrize("text", [verdicts.__doc__, RELIABILITY.read_text()], ids=["docstring", "docs"])
def test_the_table_that_people_read_is_the_one_that_the_core_walks(text: str) -> None:
    assert rows(text) == [f"| {rule.who} | {rule.case} | {rule.verdict.value} |" for rule in VERDICTS]


@pytest.mark.parametrize("who", ["batch", "device"])
def test_a_case_stands_once_and_the_last_one_is_anything_else(who: str) -> None:
    cases = [rule.case for rule in VERDICTS if rule.who == who]
    assert len(set(cases)) == len(cases)
    assert cases[-1] == "anything else"


def test_every_verdict_is_some_rows() -> None:
    assert {rule.verdict for rule in VERDICTS} == set(Verdict)


def test_the_limits_are_those_of_the_docs() -> None:
    text, config = RELIABILITY.read_text(), PoolConfig()
    section = text[text.index("## Who is blamed") : text.index("## The proof")]
    assert f"{config.device_failures} failures in a row" in section
    assert f"{config.device_failures} failed loads in a row" in section
    assert f"{config.unexplained_losses:.0f} unexplained losses" in section
    assert f"{config.device_losses} workers in a row" in section
