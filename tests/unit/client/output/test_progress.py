from __future__ import annotations

import pytest
from embedfleet.client.output import progress as module
from embedfleet.client.output.progress import PlainView
from embedfleet.protocol.wire.control import PassProgress, Progress


def figures(state: str, done: int, rows: int, *, read: bool = True) -> Progress:
    one = PassProgress(
        vector="dense-a",
        model="fake:4",
        rows_done=done,
        rows_committed=0,
        rows_per_second=10.0 * bool(done),
        tokens_per_second=50.0 * bool(done),
        share_done=done / max(rows, 1),
        seconds_left=None,
        devices=(),
        in_flight=0,
        state=state,
    )
    return Progress(run="r", status="running", rows=rows, intake_done=read, rejected=0, passes=(one,))


def test_no_figures_are_said_twice(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last row and the end of a pass its state may change, and the figures do not."""
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    view = PlainView()
    for one in (
        figures("waiting", 0, 2, read=False),
        figures("working", 2, 2, read=False),
        figures("working", 2, 4),
        figures("staging", 4, 4),
        figures("waiting", 4, 4),
        figures("done", 4, 4),
        figures("done", 4, 4),
    ):
        view.show(one)
    assert [line.removeprefix("embedfleet: dense-a: ") for line in capsys.readouterr().err.splitlines()] == [
        "waiting 0/2+",
        "working 2/2+ · 10.0 rows/s · 50 tokens/s",
        "working 2/4 · 10.0 rows/s · 50 tokens/s",
        "done 4/4 · 10.0 rows/s · 50 tokens/s",
    ]
