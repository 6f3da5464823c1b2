"""The names of docs/migration.md are there, and two of them do what they say; each encoder has tests of its own."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import Mock

from embedfleet.coordinator.background import Background
from embedfleet.coordinator.core.events import Event, RunSubmitted
from embedfleet.coordinator.runs.batch_runner import BatchRunner
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.run_options import RunOptions

ROOT = Path(__file__).parents[2]


def resolved(name: str) -> object:
    """What a dotted name stands for: the longest part of it that is a module, then attributes."""
    parts = name.split(".")
    module = next(end for end in range(len(parts), 0, -1) if (ROOT / Path(*parts[1:end])).with_suffix(".py").is_file())
    return reduce(getattr, parts[module:], resolve_name(".".join(parts[:module])))


def test_every_name_of_the_table_is_there() -> None:
    text = (ROOT / "docs" / "migration.md").read_text()
    table = text[text.index("## The design that came before") :]
    names = re.findall(r"`(embedfleet\.[\w.]+)`", table)
    assert len(names) > 20
    assert [name for name in names if resolved(name) is None] == []


def test_an_exclusive_ensemble_is_one_plan_a_pass_for_the_pool(tmp_path: Path) -> None:
    passes = tuple(PassSpec(vector=f"dense-{name}", kind="dense", model="fake:8") for name in "ab")
    options = RunOptions(cpu_fallback=True)
    spec = RunSpec(source="/c.jsonl", passes=passes)
    told: list[Event] = []
    no_exporter, background = Mock(side_effect=AssertionError), Background(lambda: None)
    parts: dict[str, Any] = {"background": background, "emit": told.append, "start_exporter": no_exporter}
    runner = BatchRunner("r", spec, tmp_path, restart=False, options=options, **parts)
    runner.run_exclusive_ensemble(unchecked=True)
    background.close()
    (event,) = told
    assert isinstance(event, RunSubmitted)
    assert [plan.vector for plan in event.passes] == ["dense-a", "dense-b"]
    assert (event.run, event.options, event.unchecked) == ("r", options, True)
