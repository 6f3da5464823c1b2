"""What is looked at before a run is queued."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.coordinator.runs import submission
from embedfleet.coordinator.runs.submission import look_at
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.control import Submit

FAKE = PassSpec(vector="dense-a", kind="dense", model="fake:8")


def test_a_source_elsewhere_is_looked_at_where_the_client_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, text_field: str | None) -> None:
        raise SourceError(f"{source}: {text_field}")

    monkeypatch.setattr(submission, "check_readable", refuse)
    spec = RunSpec(source="s3://box/a", passes=(FAKE,), index="none", text_field="body")
    request = Submit(request=1, spec=spec, out=str(tmp_path / "run"))
    with pytest.raises(SourceError, match="s3://box/a: body"):
        look_at(request, (), models=False, source=True)
    look_at(request, (), models=False)
    here = Submit(request=2, spec=RunSpec(source="/c.jsonl", passes=(FAKE,), index="none"), out=str(tmp_path / "run"))
    look_at(here, (), models=False, source=True)
