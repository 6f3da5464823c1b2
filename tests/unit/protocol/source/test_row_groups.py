"""Where the row groups of a Parquet file lie, by its footer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.protocol.source.row_groups import DamagedFooter, groups_of, row_groups, span_of


def footer(*groups: tuple[int, int | None, int]) -> Any:
    """Of groups with one column each: the offsets of the data and of the dictionary, and the bytes."""
    found = [
        SimpleNamespace(
            num_rows=10,
            num_columns=1,
            total_byte_size=size,
            column=lambda _number, data=data, dictionary=dictionary, size=size: SimpleNamespace(
                data_page_offset=data, dictionary_page_offset=dictionary, total_compressed_size=size
            ),
        )
        for data, dictionary, size in groups
    ]
    return SimpleNamespace(num_row_groups=len(found), row_group=found.__getitem__)


def test_a_dictionary_at_0_is_none() -> None:
    """Old writers wrote 0 where there was none."""
    found = groups_of(footer((4, 0, 100), (204, 104, 200)))
    assert [(one.start, one.end) for one in found] == [(4, 104), (104, 304)]
    assert [one.number for one in groups_of(footer((4, 0, 100), (104, 0, 200)), 100)] == [1]


def test_the_span_of_groups_in_any_order() -> None:
    assert span_of(groups_of(footer((304, None, 50), (4, None, 300)))) == (4, 354)
    assert span_of([]) == (0, 0)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_bytes(b"PAR1" + b"x" * 60 + b"PAR1")
    with pytest.raises((DamagedFooter, OSError)):
        row_groups(tmp_path / "c.parquet")
