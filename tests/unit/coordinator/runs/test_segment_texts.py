"""A segment's texts: longest first, cut by tokens, and handed out as they are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.core.events import Cut, SegmentCut
from embedfleet.coordinator.runs.planner import BatchSizes
from embedfleet.coordinator.runs.segment_texts import OpenTexts, SegmentTexts
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def write(layout: RunLayout, texts: list[str], segment: int = 0, pages: int | None = None) -> SegmentTexts:
    layout.chunks.mkdir(parents=True, exist_ok=True)
    columns = {
        "row": range(len(texts)),
        "id": [f"c{n}" for n in range(len(texts))],
        "text": texts,
        "metadata": [None] * len(texts),
        "n_bytes": [len(text.encode()) for text in texts],
    }
    table = pa.table({name: pa.array(values, CHUNK_SCHEMA.field(name).type) for name, values in columns.items()})
    pq.write_table(table, layout.chunk_segment(segment), row_group_size=pages)
    return SegmentTexts(layout, segment)


def of(tokens: int, rows: int = 4_096) -> BatchSizes:
    """Cuts of at most so many tokens and rows."""
    return BatchSizes(tokens, rows, 0, 0)


def texts_of(segment: SegmentTexts, start: int, stop: int) -> list[str]:
    """The batch as a worker reads it."""
    arrays = segment.arrays(start, stop)
    offsets, data = arrays["offsets"].tolist(), arrays["utf8"].tobytes()
    assert offsets[0] == 0
    assert offsets[-1] == len(data)
    return [data[one:other].decode() for one, other in pairwise(offsets)]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path)


def test_texts_stand_longest_first_and_ties_in_order(layout: RunLayout) -> None:
    segment = write(layout, ["bb", "a", "ü", "cccc", "dd"])
    assert segment.rows == 5
    assert segment.order.tolist() == [3, 0, 2, 4, 1]
    assert texts_of(segment, 0, 5) == ["cccc", "bb", "ü", "dd", "a"]


def test_a_batch_has_its_own_offsets_and_the_rows_that_it_is_of(layout: RunLayout) -> None:
    segment = write(layout, ["bb", "a", "ü", "cccc", "dd"])
    assert texts_of(segment, 1, 3) == ["bb", "ü"]
    assert segment.arrays(1, 3)["offsets"].dtype == np.int32
    assert segment.arrays(1, 3)["utf8"].dtype == np.uint8
    assert segment.positions(1, 3).tolist() == [0, 2]


def test_row_groups_do_not_matter(layout: RunLayout) -> None:
    texts = [f"{'x' * (n % 7)}{n}" for n in range(50)]
    whole, parts = write(layout, texts, 0), write(layout, texts, 1, pages=7)
    assert texts_of(parts, 0, 50) == texts_of(whole, 0, 50)


def test_cuts_are_estimated_at_four_bytes_a_token_and_two_a_text(layout: RunLayout) -> None:
    segment = write(layout, ["x" * 40, "x" * 20, "x" * 20, "x" * 4])
    assert segment.cut(of(12 + 7)) == (Cut(0, 2, 19), Cut(2, 4, 10))
    assert segment.cut(of(1 << 30)) == (Cut(0, 4, 29),)


def test_a_text_over_the_budget_is_a_batch_of_its_own(layout: RunLayout) -> None:
    segment = write(layout, ["x" * 400, "x" * 4, "x" * 4])
    assert segment.cut(of(10)) == (Cut(0, 1, 102), Cut(1, 3, 6))


def test_a_batch_has_a_most_of_rows(layout: RunLayout) -> None:
    cuts = write(layout, ["x"] * 8).cut(of(1 << 30, 3))
    assert [(cut.start, cut.stop) for cut in cuts] == [(0, 3), (3, 6), (6, 8)]


@given(lengths=st.lists(st.integers(1, 400), min_size=1, max_size=60), budget=st.integers(1, 500))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cuts_cover_every_row_once_and_respect_the_budget(layout: RunLayout, lengths: list[int], budget: int) -> None:
    texts = [f"{n:03}" + "x\u00fc"[length % 2] * length for n, length in enumerate(lengths)]
    segment = write(layout, texts)
    cuts = segment.cut(of(budget))
    assert cuts[0].start == 0
    assert cuts[-1].stop == len(texts)
    assert all(one.stop == other.start for one, other in pairwise(cuts))
    assert all(cut.tokens <= budget or cut.stop - cut.start == 1 for cut in cuts)
    seen = {
        position: text
        for cut in cuts
        for position, text in zip(
            segment.positions(cut.start, cut.stop).tolist(), texts_of(segment, cut.start, cut.stop), strict=True
        )
    }
    assert [seen[row] for row in range(len(texts))] == texts
    order = segment.positions(0, len(texts)).tolist()
    assert order == sorted(range(len(texts)), key=lambda row: (-len(texts[row].encode()), row))
    for cut, after in zip(cuts, [*cuts[1:], None], strict=True):
        assert cut.tokens == sum(len(texts[row].encode()) // 4 + 2 for row in order[cut.start : cut.stop])
        if after is not None:  # one more row would have been too many
            assert cut.tokens + len(texts[order[after.start]].encode()) // 4 + 2 > budget


class Texts:
    """OpenTexts with a background of which the test says when it calls, and the loop takes its notes."""

    def __init__(self, layout: RunLayout) -> None:
        self.emitted: list[SegmentCut] = []
        self.calls: list[Callable[[], None]] = []
        background: Any = SimpleNamespace(post=self._post)
        self.open = OpenTexts("r", layout, background, self.emitted.append)

    def _post(self, run: str, call: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        assert run == "r"

        def answer() -> None:
            future: Future[Any] = Future()
            future.set_result(call())
            then(future)

        self.calls.append(answer)

    def cut(self, pass_index: int, segment: int) -> SegmentTexts:
        self.open.cut(pass_index, segment, of(1 << 30))
        self.calls.pop()()
        return self.open[segment]


@pytest.fixture
def texts(layout: RunLayout) -> Texts:
    for number in range(3):
        write(layout, [f"text {number}", "another"], number)
    return Texts(layout)


def test_a_segment_is_read_beside_the_loop_and_cut_when_it_is_there(texts: Texts) -> None:
    texts.open.cut(4, 1, of(1 << 30))
    assert texts.emitted == []
    with pytest.raises(KeyError):
        texts.open[1]
    texts.calls.pop()()
    assert texts.emitted == [SegmentCut("r", 4, 1, (Cut(0, 2, 6),))]
    assert texts_of(texts.open[1], 0, 1) == ["another"]


def test_it_is_held_until_each_pass_has_handed_on_every_row(texts: Texts) -> None:
    held = texts.cut(0, 1)
    assert texts.cut(1, 1) is held, "nor read again"
    texts.open.handed_on(0, 1, 1)
    texts.open.handed_on(0, 1, 1)
    texts.open.handed_on(1, 1, 1)
    assert texts.open[1] is held
    texts.open.handed_on(1, 1, 1)
    with pytest.raises(KeyError):
        texts.open[1]


def test_rows_of_a_segment_that_was_not_cut_are_handed_on_all_the_same(texts: Texts) -> None:
    held = texts.cut(0, 1)
    texts.open.handed_on(1, 1, 2)
    texts.open.handed_on(1, 2, 2)
    assert texts.open[1] is held


def test_a_segment_that_is_cut_anew_is_held_for_all_its_rows(texts: Texts) -> None:
    texts.cut(0, 1)
    texts.open.handed_on(0, 1, 1)
    texts.open.clear()
    held = texts.cut(0, 1)
    texts.open.handed_on(0, 1, 1)
    assert texts.open[1] is held


def test_what_was_asked_for_before_a_clear_counts_no_more(texts: Texts) -> None:
    """The exporter was lost, or the run is closing, while a segment was being read."""
    texts.open.cut(0, 1, of(1 << 30))
    texts.open.clear()
    texts.calls.pop()()
    assert texts.emitted == []
    with pytest.raises(KeyError):
        texts.open[1]
