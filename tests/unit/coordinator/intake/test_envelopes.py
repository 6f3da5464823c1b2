"""Two objects of a record that become one."""

from __future__ import annotations

from embedfleet.coordinator.intake.envelopes import OUTER, merge


def test_values_of_the_outer_object_are_kept_in_its_order() -> None:
    outer = {f"field{number}": number for number in range(30)}
    inner = {f"field{number}": -1 for number in reversed(range(30))}
    merged, _ = merge(outer, inner)
    assert list(merged[OUTER]) == list(outer)
