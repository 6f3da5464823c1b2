from __future__ import annotations

from embedfleet.protocol.finished_run.point_ids import point_id


def test_a_point_id_never_changes():
    assert point_id("c1") == "966a405e-2e05-5d4f-a424-d1dd1a22e8d3"
    assert point_id("c1") != point_id("c2")
