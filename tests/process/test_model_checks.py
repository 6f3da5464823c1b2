"""The coordinator's side of the check of models, with the real child: what it found, and what when it finds nothing."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.coordinator.core.events import ModelsChecked
from embedfleet.coordinator.runs.model_checks import ModelChecks, passes_to_check
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.control import Submit

from ..model_folders import save

pytest.importorskip("huggingface_hub")
RERANKER = PassSpec(vector="rerank-r", kind="rerank", model="no such reranker")


def dense(model: str | Path, vector: str = "dense-a", **options: Any) -> PassSpec:
    return PassSpec(vector=vector, kind="dense", model=str(model), **options)


def spec_of(*passes: PassSpec) -> RunSpec:
    return RunSpec(source="/s", passes=passes)


def outcome(checks: ModelChecks) -> Any:
    """What the one check came to, once it has ended."""
    (pidfd,) = checks.pidfds()
    select.select([pidfd], [], [], 30)
    (found,) = checks.take(time.monotonic())
    assert list(checks.pidfds()) == []
    return found


def test_refusals_come_with_the_numbers_of_their_passes(tmp_path: Path) -> None:
    good = save(tmp_path / "good")
    spec = spec_of(dense("fake:8"), dense(good, "dense-b"), dense("no such model", "dense-c"))
    checks = ModelChecks()
    checks.start("r", spec, [*spec.passes[1:], RERANKER])
    found = outcome(checks)
    assert not found.trouble
    first, second = found.event.refused
    assert (first.pass_index, first.kind, second.pass_index) == (2, "ModelError", None)
    assert "'no such model'" in first.message
    assert "'no such reranker'" in second.message


def test_models_that_can_be_used_are_no_refusals(tmp_path: Path) -> None:
    spec = spec_of(dense(save(tmp_path / "good")))
    checks = ModelChecks()
    checks.start("r", spec, spec.passes)
    assert outcome(checks).event == ModelsChecked("r")


def test_one_that_takes_too_long_is_passed_over_and_ended(waiting: Any) -> None:
    checks = ModelChecks(seconds=0.0)
    checks.start("r", spec_of(RERANKER), [RERANKER])
    (child,) = waiting.children_with("embedfleet.worker.models.check")
    (found,) = checks.take(time.monotonic())
    assert found.event == ModelsChecked("r")
    assert found.trouble == "that took more than 0 s"
    assert not child.is_running()


def test_one_that_crashes_is_passed_over_with_its_last_words() -> None:
    checks = ModelChecks()
    no_passes: Any = [1]
    checks.start("r", spec_of(RERANKER), no_passes)
    found = outcome(checks)
    assert found.event == ModelsChecked("r")
    assert found.trouble.startswith("the check ended with exit code 1. standard input is no JSON array of passes")


def test_a_run_that_ends_takes_its_check_along(waiting: Any) -> None:
    checks = ModelChecks()
    checks.start("r", spec_of(RERANKER), [RERANKER])
    (child,) = waiting.children_with("embedfleet.worker.models.check")
    checks.end("another")
    assert child.is_running()
    checks.end("r")
    assert not child.is_running()
    assert checks.take(time.monotonic() + 1000) == []


def named(request: Submit) -> list[str]:
    """The vectors of the passes whose models are looked at."""
    return [one.vector for one in passes_to_check(request)]


def test_what_is_whole_is_looked_at_only_where_its_model_was_noted(tmp_path: Path) -> None:
    a, b = dense("model-a"), dense("model-b", "dense-b")
    bm25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")
    spec = spec_of(dense("fake:8", "dense-f"), bm25, a, b)
    request = Submit(request=1, spec=spec, out=str(tmp_path), later=(RERANKER,))
    assert named(request) == ["dense-a", "dense-b", "rerank-r"]
    layout = RunLayout(tmp_path)
    for vector, segments in (("dense-a", 2), ("dense-b", 1)):
        layout.vector_folder(vector).mkdir(parents=True)
        for segment in range(segments):
            layout.vector_segment(vector, segment).write_bytes(b"")
    assert named(request) == ["dense-a", "dense-b", "rerank-r"], "nobody knows how many segments there are to be"
    layout.intake_folder.mkdir()
    layout.passes.mkdir()
    counts = {"segments": 2, "rows": 9, "rejected": 0, "duplicates": 0, "complete": True}
    layout.intake.write_bytes(msgspec.json.encode(counts))
    assert named(request) == ["dense-b", "rerank-r"], "of dense-a nobody noted which model it was"
    layout.pass_file("dense-a").write_bytes(b'{"files": {"config.json": "1"}}')
    assert [(one.vector, one.whole, one.files) for one in passes_to_check(request)] == [
        ("dense-a", True, {"config.json": "1"}),
        ("dense-b", False, {}),
        ("rerank-r", False, {}),
    ]
    assert named(msgspec.structs.replace(request, restart=True)) == ["dense-a", "dense-b", "rerank-r"]
    layout.intake.write_bytes(msgspec.json.encode(counts | {"complete": False}))
    assert named(request) == ["dense-a", "dense-b", "rerank-r"]
